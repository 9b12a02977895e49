"""The client's calls about people: invite, roles, disable, reset, link; own sessions and keys."""

from collections.abc import Iterator, Sequence

from service import people_resources as p
from service.connection import Connection
from service.resources import User


class PeopleCalls:
    """What `KaimaClient` can do about people."""

    _connection: Connection

    def users(self) -> Iterator[User]:
        """Yield the users of every tenant, newest first (operator)."""
        return self._connection.pages(p.UserPage, "/v1/users")

    def user(self, user_id: str) -> p.UserFacts:
        """Return a user and how they sign in (operator)."""
        return self._connection.get(p.UserFacts, f"/v1/users/{user_id}")

    def invite(
        self, name: str, *, roles: Sequence[str], tenant_id: str, sign_in_name: str
    ) -> p.Invitation:
        """Create a user and the link with which they choose a password (operator)."""
        body = p.NewInvitation.model_validate(
            {
                "name": name,
                "roles": list(roles),
                "tenant_id": tenant_id,
                "sign_in_name": sign_in_name,
            }
        )
        return self._connection.post(p.Invitation, "/v1/invitations", body)

    def invite_again(self, user_id: str, *, sign_in_name: str | None = None) -> p.Invitation:
        """Make a link for a user without a password, or who lost it (operator)."""
        body = p.NewInvitation(user_id=user_id, sign_in_name=sign_in_name)
        return self._connection.post(p.Invitation, "/v1/invitations", body)

    def request_factor_reset(self, user_id: str) -> p.FactorReset:
        """Ask to remove a user's second factors; they are told (operator)."""
        return self._connection.post(p.FactorReset, f"/v1/users/{user_id}/factor-reset")

    def finish_factor_reset(self, user_id: str, *, sign_in_name: str | None = None) -> p.Invitation:
        """Confirm the removal as another operator, or do it after its time; make a link."""
        body = p.ResetCompletion(sign_in_name=sign_in_name)
        path = f"/v1/users/{user_id}/factor-reset/completion"
        return self._connection.post(p.Invitation, path, body)

    def cancel_factor_reset(self, user_id: str) -> None:
        """Keep the second factors: one's own, or somebody's as an operator."""
        self._connection.send("DELETE", f"/v1/users/{user_id}/factor-reset")

    def change_roles(self, user_id: str, roles: Sequence[str]) -> User:
        """Give a user other roles (operator)."""
        body = p.NewRoles.model_validate({"roles": list(roles)})
        return self._connection.post(User, f"/v1/users/{user_id}/roles", body, method="PUT")

    def disable_user(self, user_id: str) -> User:
        """Stop a user's sessions and keys at once (operator)."""
        return self._connection.post(User, f"/v1/users/{user_id}/disable")

    def enable_user(self, user_id: str) -> User:
        """Let a disabled user in again (operator)."""
        return self._connection.post(User, f"/v1/users/{user_id}/enable")

    def link_identity(self, user_id: str, *, issuer: str, subject: str) -> p.Identity:
        """Let a user sign in with an account elsewhere (operator)."""
        body = p.NewIdentity(issuer=issuer, subject=subject)
        return self._connection.post(p.Identity, f"/v1/users/{user_id}/identities", body)

    def unlink_identity(self, identity_id: str) -> None:
        """Take the link to an account elsewhere away (operator)."""
        self._connection.send("DELETE", f"/v1/identities/{identity_id}")

    def own_account(self) -> p.OwnAccount:
        """Return where one is signed in, and one's own keys."""
        return self._connection.get(p.OwnAccount, "/v1/me/account")

    def end_session(self, session_id: str) -> None:
        """Sign a browser of one's own out."""
        self._connection.send("DELETE", f"/v1/me/sessions/{session_id}")

    def revoke_own_key(self, key_id: str) -> None:
        """Revoke one of one's own API keys."""
        self._connection.send("DELETE", f"/v1/me/api-keys/{key_id}")
