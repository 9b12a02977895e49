"""What people are told keeps up with the code."""

import pytest

from privacy.policy import load_policy

PACKAGES = ("privacy", "training", "workers", "service", "benchmarks")


def command_paths(command, prefix=()):
    """Yield the words of every command below a click group."""
    for name, found in getattr(command, "commands", {}).items():
        yield (*prefix, name)
        yield from command_paths(found, (*prefix, name))


def test_the_readme_of_the_service_names_every_command(repository):
    from service.cli import kaima

    text = (repository / "service" / "README.md").read_text(encoding="utf-8")
    missing = [path for path in command_paths(kaima) if f"kaima {' '.join(path)}" not in text]
    assert not missing


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package, repository):
    assert len((repository / package / "README.md").read_text(encoding="utf-8")) > 300


def test_the_packaged_policy_loads():
    assert load_policy(None).version


@pytest.mark.parametrize("name", ["LICENSE", "CONTRIBUTING.md", "SECURITY.md", "README.md"])
def test_the_repository_has_what_a_stranger_looks_for(name, repository):
    assert (repository / name).is_file()


def test_make_help_names_every_option_of_the_demo(repository):
    text = (repository / "Makefile").read_text(encoding="utf-8")
    for option in ("DATA", "LABEL", "LABELS", "UNIT", "EPSILON", "DELTA", "TIER", "GENERATOR"):
        assert f"$({option})" in text
