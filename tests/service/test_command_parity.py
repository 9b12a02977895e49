"""What a program can do through the API, a person can do with `kaima`; exceptions are named here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.wiring import Application

SERVICE = Path(__file__).resolve().parents[2] / "service"
WITHOUT_A_COMMAND = {
    "GET /v1/releases/{release_id}/downloads.csv": "`kaima access log` shows the same rows",
}
"""Operations of the API that no command asks for, each with its reason."""

Sent = set[tuple[str, str]]


class _Method(ast.NodeVisitor):
    """What one method of the client sends, and which other methods it calls with which words.

    A path is a pattern: `{}` for what is filled in, `{name}` for a parameter of the method.
    """

    def __init__(self, definition: ast.FunctionDef) -> None:
        self.parameters = [argument.arg for argument in definition.args.args[1:]]
        self.paths: dict[str, str] = {}
        self.sent: Sent = set()
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.visit(definition)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Note a path that is kept in a name."""
        path = self._path(node.value)
        if path is not None and isinstance(node.targets[0], ast.Name):
            self.paths[node.targets[0].id] = path
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Note a request, or the call of another method of the client."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return
        name, owner = node.func.attr, node.func.value
        if isinstance(owner, ast.Name) and owner.id == "self":
            self.calls.append((name, self._words(node)))
        elif name in {"get", "pages", "post", "send", "put_blocks"}:
            verb = {"get": "GET", "pages": "GET", "put_blocks": "PUT"}.get(name, "POST")
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            told = node.args[0] if name == "send" else given.get("method")
            if isinstance(told, ast.Constant):
                verb = str(told.value)
            elif told is not None:
                verb = "*"
            self.sent |= {(verb, path) for path in map(self._path, node.args) if path}

    def _words(self, node: ast.Call) -> dict[str, str]:
        """Return the constants among the arguments, by position (as text) or name."""
        positional = {str(at): argument for at, argument in enumerate(node.args)}
        named = {str(keyword.arg): keyword.value for keyword in node.keywords}
        return {
            name: value.value
            for name, value in (positional | named).items()
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        }

    def _path(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self.paths.get(node.id)
        if isinstance(node, ast.Constant):
            parts = [str(node.value)]
        elif isinstance(node, ast.JoinedStr):
            parts = [self._part(value) for value in node.values]
        else:
            return None
        path = re.sub(r"(?<!/)\{\}$", "", "".join(parts).partition("?")[0])  # a query
        return path if path.startswith("/v1/") else None

    def _part(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        inner = node.value if isinstance(node, ast.FormattedValue) else node
        is_parameter = isinstance(inner, ast.Name) and inner.id in self.parameters
        return f"{{{inner.id}}}" if is_parameter and isinstance(inner, ast.Name) else "{}"


def client_methods() -> dict[str, _Method]:
    found = {}
    for file in (*SERVICE.glob("*client.py"), SERVICE / "transfers.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
                found |= {method.name: _Method(method) for method in methods}
    return found


def requests_of(name: str, methods: dict[str, _Method], seen: frozenset[str] = frozenset()) -> Sent:
    """Return what a method sends, by itself or through others, with the words it hands them."""
    method = methods.get(name)
    if method is None or name in seen:
        return set()
    found = set(method.sent)
    for called, words in method.calls:
        if called not in methods:
            continue
        callee = methods[called]
        given = {
            (callee.parameters[int(key)] if key.isdigit() else key): word
            for key, word in words.items()
            if not key.isdigit() or int(key) < len(callee.parameters)
        }
        for verb, path in requests_of(called, methods, seen | {name}):
            for parameter, word in given.items():
                path = path.replace(f"{{{parameter}}}", word)  # noqa: PLW2901 - filled in
            found.add((verb, path))
    return found


def used_by_commands() -> Iterator[str]:
    for file in (SERVICE / "commands").glob("*.py"):
        yield from re.findall(r"client\.(\w+)", file.read_text())


def plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}|<[^>]*>", "{}", path)


def named(rule: str) -> str:
    return re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule)


@pytest.fixture
def operations(sqlite_application: Application) -> set[tuple[str, str]]:
    """Return the operations of the API, from its own routes."""
    app = create_app(sqlite_application)
    return {
        (verb, rule.rule)
        for rule in app.url_map.iter_rules()
        for verb in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }


def test_every_operation_of_the_api_has_a_command(operations: set[tuple[str, str]]) -> None:
    methods = client_methods()
    asked = {
        (verb, plain(path))
        for name in used_by_commands()
        for verb, path in requests_of(name, methods)
    }
    missing = {
        f"{verb} {named(rule)}"
        for verb, rule in operations
        if not {(verb, plain(rule)), ("*", plain(rule))} & asked
    }
    assert missing == set(WITHOUT_A_COMMAND), "give it a command, or a reason"


def test_a_client_without_a_commands_word_would_be_found() -> None:
    """The reading of the client's source is worth something only if it can come out empty."""
    methods = client_methods()
    assert ("POST", "/v1/releases/{}/suspend") in {
        (verb, plain(path)) for verb, path in requests_of("suspend_release", methods)
    }
    assert not requests_of("close", methods)
