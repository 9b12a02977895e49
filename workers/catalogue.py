"""Writes service/catalogue.json: what the service, which never imports torch, knows of plug-ins.

`python -m workers.catalogue` refreshes the file; with `--check` it only says whether the file is
current, with exit status 1 if it is not. The file's diff shows a reviewer which settings users
gain or lose.
"""

import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any

import click

import privacy.audits
import service
from training import generators

PATH = Path(service.__file__).parent / "catalogue.json"


def catalogue() -> dict[str, Any]:
    """Describe every generator and every audit by its own docstring and Config."""
    return {
        "generators": {name: _generator(name) for name in generators.available()},
        "audits": {
            module.name: _audit(f"{privacy.audits.__name__}.{module.name}")
            for module in pkgutil.iter_modules(privacy.audits.__path__)
        },
    }


def catalogue_text() -> str:
    """Return the file's exact content."""
    return json.dumps(catalogue(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def is_current(path: Path = PATH) -> bool:
    """Tell whether the file holds what the code says."""
    return path.exists() and path.read_text(encoding="utf-8") == catalogue_text()


def _generator(name: str) -> dict[str, Any]:
    module = generators.load(name)
    return _documentation(module) | {
        "schema": module.Config.model_json_schema(),
        "defaults": module.Config().model_dump(mode="json"),
        "stages": [stage.model_dump(mode="json") for stage in module.STAGES],
        "presets": {
            preset: values.model_dump(mode="json")
            for preset, values in generators.presets_of(module).items()
        },
        "suits_from": generators.suits_from(module),
        "modality": getattr(module, "MODALITY", "image"),
    }


def _audit(module_name: str) -> dict[str, Any]:
    module = importlib.import_module(module_name)
    config = getattr(module, "Config", None)
    schema = config.model_json_schema() if config is not None else None
    return _documentation(module) | {"schema": schema}


def _documentation(module: object) -> dict[str, str]:
    text = inspect.getdoc(module) or ""
    title, _, rest = text.partition("\n")
    return {"title": title.rstrip("."), "documentation": rest.strip()}


@click.command()
@click.option("--check", is_flag=True, help="Only tell whether the file is current.")
def main(check: bool) -> None:  # noqa: FBT001  (click passes options by position of the name)
    """Write service/catalogue.json from the plug-ins."""
    if not check:
        PATH.write_text(catalogue_text(), encoding="utf-8")
        return
    if not is_current():
        raise click.ClickException(
            "service/catalogue.json is stale. Run `python -m workers.catalogue` and commit it."
        )


if __name__ == "__main__":
    main()
