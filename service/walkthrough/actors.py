"""The five people of the walkthrough, each with an API key of their own."""

from dataclasses import dataclass, field

from service.client import KaimaClient


@dataclass(frozen=True)
class Actors:
    """Connections that act for the operator, the data owner, two auditors and a collaborator.

    `keys` maps a person to their API key, for signing in by hand; `links` what opens without one.
    """

    operator: KaimaClient
    owner: KaimaClient
    auditors: tuple[KaimaClient, KaimaClient]
    collaborator: KaimaClient
    tenant_id: str
    url: str
    keys: dict[str, str] = field(repr=False)
    links: dict[str, str] = field(default_factory=dict, repr=False)

    def new_person(self, who: str, role: str, tenant_id: str) -> KaimaClient:
        """Create another person, as the operator; whoever asked closes the connection."""
        user = self.operator.create_user(who, roles=[role], tenant_id=tenant_id)
        self.keys[who] = self.operator.create_api_key(user.id, expires_in_days=7).token
        return KaimaClient(self.url, self.keys[who])

    def close(self) -> None:
        """Close every connection."""
        for client in (self.operator, self.owner, *self.auditors, self.collaborator):
            client.close()


def make_actors(url: str, operator_key: str, *, name: str = "Phantom Hospital") -> Actors:
    """Create a hospital and its people, as the operator."""
    operator = KaimaClient(url, operator_key)
    hospital = operator.create_tenant(name)

    keys = {"operator": operator_key}

    def person(who: str, role: str) -> KaimaClient:
        user = operator.create_user(who, roles=[role], tenant_id=hospital.id)
        keys[who] = operator.create_api_key(user.id, expires_in_days=7).token
        return KaimaClient(url, keys[who])

    return Actors(
        operator=operator,
        owner=person("Data owner", "data_owner"),
        auditors=(person("First auditor", "auditor"), person("Second auditor", "auditor")),
        collaborator=person("Collaborator", "collaborator"),
        tenant_id=hospital.id,
        url=url,
        keys=keys,
    )
