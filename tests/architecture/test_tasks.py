"""Every kind of job has a task and a module that does it, and nothing else is a task."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import workers
from service.dispatch import task_name
from service.domain.jobs import JobKind
from workers.app import app
from workers.job import entry_for


def test_every_job_kind_has_a_task_and_every_task_a_kind():
    tasks = {name for name in app.tasks if name.startswith("workers.")}
    assert tasks == {task_name(kind) for kind in JobKind}


@pytest.mark.parametrize("kind", list(JobKind))
def test_every_job_kind_has_a_module_that_says_what_it_does(kind):
    entry = entry_for(kind)
    assert entry.__module__ == f"workers.{kind.value}"
    assert importlib.import_module(entry.__module__).__doc__.startswith(kind.value.upper())


def test_messages_are_json_and_results_are_kept_nowhere():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.result_backend is None
    assert app.conf.task_ignore_result is True
    assert all(app.tasks[task_name(kind)].ignore_result for kind in JobKind)


def test_a_message_is_acknowledged_before_the_work_and_never_fetched_ahead():
    """A late acknowledgement would start a second training while the first one runs."""
    assert app.conf.task_acks_late is False
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.worker_cancel_long_running_tasks_on_connection_loss is False


def test_workers_never_import_flask():
    modules = [
        module.name
        for module in pkgutil.walk_packages(workers.__path__, prefix="workers.")
        if not module.name.endswith("__main__")
    ]
    code = "\n".join(
        [f"import {name}" for name in modules]
        + ["import sys", "sys.exit('flask' in sys.modules or 'gunicorn' in sys.modules)"]
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
