"""The `kaima` command: each step of the walkthrough, verify, audit, serve, demo, journal.

The base install runs everything but `serve`, `demo`, `journal`, `audit`, `edit`, `openapi` and
`operator init`; what those need is imported only when they run.
"""

import click

from service.commands import (
    access,
    accounts,
    datasets,
    editing,
    edits,
    jobs,
    journal,
    journal_queries,
    machines,
    people,
    policies,
    releases,
    reviews,
    schemas,
    studies,
    trust,
    versions,
)
from service.commands.console import Session, run_command
from service.profile import Profile


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
@click.version_option(package_name="kaima")
@click.pass_context
def kaima(context: click.Context, *, as_json: bool) -> None:
    """Share synthetic radiographs with an audited privacy guarantee.

    KAIMA_URL and KAIMA_API_KEY say where and as whom; `kaima login` keeps them.
    """
    context.obj = Session(profile=Profile.load(), as_json=as_json)


for _command in (
    accounts.login,
    accounts.whoami,
    accounts.operator,
    people.account,
    datasets.dataset,
    schemas.schema,
    jobs.train,
    jobs.job,
    jobs.report,
    releases.release,
    releases.download,
    reviews.review,
    reviews.plan,
    reviews.notification,
    reviews.webhook,
    policies.policy,
    access.access,
    access.agreement,
    studies.study,
    trust.verify,
    trust.audit,
    editing.edit,
    trust.trust,
    machines.serve,
    machines.demo,
    journal.journal,
    machines.openapi,
):
    kaima.add_command(_command)


_ADDED = (edits, journal_queries, versions)
"""Modules whose import adds commands to the groups above."""


def main() -> None:
    """Run the command line and exit."""
    run_command(kaima)


if __name__ == "__main__":
    main()
