from __future__ import annotations

import json
import string
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.prefabs import problems
from gateway_server.prefabs.manifest import (
    Function,
    Manifest,
    PackageError,
    files_schema,
    parameters_schema,
    parse_manifest,
)

from .conftest import function, manifest

INPUT = {"type": "array", "items": {"type": "InputFile"}}
OUTPUT = {"type": "array", "items": {"type": "OutputFile"}}


def one(**changes: Any) -> Function:
    return parse_manifest(manifest(functions=[function(**changes)])).functions[0]


def parameter(**changes: Any) -> Function:
    return one(parameters=[{"name": "a", "type": "string"} | changes])


def refusals(raw: Any) -> dict[str, str]:
    with pytest.raises(PackageError) as caught:
        parse_manifest(raw)
    return {problem.pointer: problem.message for problem in caught.value.problems}


def warned(parsed: Manifest) -> set[str]:
    return {problem.pointer for problem in parsed.warnings}


def test_reads_all_that_a_manifest_says() -> None:
    parsed = parse_manifest(
        json.dumps(
            manifest(
                name="Hello",
                description="Says hello",
                author="A",
                github_url="https://example.org/x",
                tags=["text", "文本"],
                entry_point="src/main.py",
                dependencies_file="pyproject.toml",
                execution_environment={"cpu": "500m", "memory": "1Gi"},
                functions=[
                    function(
                        description="d",
                        parameters=[{"name": "n", "type": "integer", "required": False, "default": 3}],
                        returns={"type": "object", "properties": {}},
                        files={
                            "out": OUTPUT,
                            "in": {**INPUT, "required": True, "minItems": 1, "maxItems": 4},
                        },
                        secrets=[{"name": "API_KEY", "description": "k", "instructions": "ask"}],
                        streaming=True,
                        timeout=90,
                    )
                ],
            )
        ).encode()
    )
    assert parsed.warnings == ()
    assert (parsed.name, parsed.author, parsed.tags) == ("Hello", "A", ("text", "文本"))
    assert (parsed.cpu, parsed.memory, parsed.network) == (0.5, 1024**3, True)
    greet = parsed.function("greet")
    assert greet is not None
    assert greet.disabled is None
    assert greet.streaming
    assert greet.timeout == 90.0
    assert [p.default for p in greet.parameters] == [3]
    assert (greet.inputs["in"].min_items, greet.inputs["in"].max_items) == (1, 4)
    assert list(greet.outputs) == ["out"]
    assert (greet.secrets[0].name, greet.secrets[0].required) == ("API_KEY", True)
    assert parsed.function("other") is None


def test_what_is_absent_has_its_default() -> None:
    parsed = parse_manifest(manifest())
    assert parsed.warnings == ()
    assert (parsed.name, parsed.entry_point) == ("hello-world", "src/main.py")
    assert (parsed.cpu, parsed.memory) == (1.0, 512 * 1024**2)


def test_all_problems_are_reported_at_once() -> None:
    found = refusals({"id": "Hello", "version": "1.0", "entry_point": "../main.py", "functions": []})
    assert set(found) == {"/id", "/version", "/entry_point", "/functions"}


@pytest.mark.parametrize("good", ["abc", "a-b", "s3-tool-2", "x" * 64, "3d-view"])
def test_good_ids(good: str) -> None:
    assert parse_manifest(manifest(id=good)).id == good


@pytest.mark.parametrize(
    "bad", [None, "", "ab", "x" * 65, "A-b", "a_b", "-ab", "ab-", "a--b", "a/b", "abc\n", 3, "äbc"]
)
def test_bad_ids(bad: object) -> None:
    assert "/id" in refusals(manifest(id=bad))


@pytest.mark.parametrize("bad", [None, "1", "1.0", "1.0.0-rc1", "1.0.0rc1", "v1.0.0", "01.0.0", "1.0.0 ", 1.0, "१.0.0"])
def test_bad_versions(bad: object) -> None:
    assert "/version" in refusals(manifest(version=bad))


@pytest.mark.parametrize(
    "bad", ["main.py", "/src/main.py", "src/../main.py", "src/main.txt", "src/a b.py", 1, "src/.py"]
)
def test_bad_entry_points(bad: object) -> None:
    assert "/entry_point" in refusals(manifest(entry_point=bad))


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        ("1", "512Mi", (1.0, 512 * 1024**2)),
        ("250m", "1Gi", (0.25, 1024**3)),
        (2, 1073741824, (2.0, 1024**3)),
        (0.5, "1.5Gi", (0.5, 1536 * 1024**2)),
        ("0.5", "512MB", (0.5, 512_000_000)),
    ],
)
def test_resources(cpu: object, memory: object, expected: tuple[float, int]) -> None:
    parsed = parse_manifest(manifest(execution_environment={"cpu": cpu, "memory": memory}))
    assert (parsed.cpu, parsed.memory) == expected
    assert parsed.warnings == ()


@pytest.mark.parametrize("bad", ["", "lots", "-1", True, "1e3", "0", [], "512", "9" * 30])
def test_resources_that_cannot_be_meant_fall_back(bad: object) -> None:
    parsed = parse_manifest(manifest(execution_environment={"cpu": "x", "memory": bad}))
    assert (parsed.cpu, parsed.memory) == (1.0, 512 * 1024**2)
    assert warned(parsed) == {"/execution_environment/cpu", "/execution_environment/memory"}


def test_a_contradictory_upper_bound_is_ignored_and_named() -> None:
    parsed = parse_manifest(manifest(functions=[function(files={"in": {**INPUT, "minItems": 5, "maxItems": 2}})]))
    group = parsed.functions[0].inputs["in"]
    assert (group.min_items, group.max_items) == (5, None)
    assert [problem.pointer for problem in parsed.warnings] == ["/functions/0/files/in/maxItems"]


def test_file_groups_are_required_unless_they_say_otherwise() -> None:
    files = {"a": INPUT, "b": {**INPUT, "required": False}, "c": {**INPUT, "minItems": 0}}
    groups = one(files=files).inputs
    assert [(g.required, g.min_items) for g in groups.values()] == [(True, 1), (False, 0), (True, 0)]


@pytest.mark.parametrize(
    ("broken", "pointer"),
    [
        ({"parameters": 5}, "/functions/1/parameters"),
        ({"parameters": [{"name": "a", "type": "quaternion"}]}, "/functions/1/parameters/0/type"),
        ({"parameters": [{"type": "string"}]}, "/functions/1/parameters/0/name"),
        ({"files": []}, "/functions/1/files"),
        ({"files": {"a": {"type": "array", "items": {"type": "Picture"}}}}, "/functions/1/files/a/items"),
        ({"files": {"a/b": INPUT}}, "/functions/1/files/a~1b"),
        ({"files": {"..": INPUT}}, "/functions/1/files/.."),
        ({"secrets": [{"name": "lower"}]}, "/functions/1/secrets/0/name"),
        ({"secrets": [{"name": "LD_PRELOAD"}]}, "/functions/1/secrets/0/name"),
    ],
)
def test_one_bad_function_leaves_the_others_alone(broken: dict[str, Any], pointer: str) -> None:
    parsed = parse_manifest(manifest(functions=[function(name="good"), function(name="bad", **broken)]))
    good, bad = parsed.functions
    assert good.disabled is None
    assert bad.disabled
    assert [problem.pointer for problem in parsed.warnings] == [pointer]
    assert "'bad' is disabled" in parsed.warnings[0].message


def test_a_function_without_a_name_is_left_out() -> None:
    parsed = parse_manifest(manifest(functions=[function(), {"name": "not a name"}, 7]))
    assert [f.name for f in parsed.functions] == ["greet"]
    assert warned(parsed) == {"/functions/1/name", "/functions/2"}


def test_no_usable_function_refuses_with_the_reasons() -> None:
    found = refusals(manifest(functions=[function(parameters=5)]))
    assert set(found) == {"/functions", "/functions/0/parameters"}


def test_two_functions_of_one_name_are_refused() -> None:
    assert "/functions/1/name" in refusals(manifest(functions=[function(), function()]))


@pytest.mark.parametrize(
    ("older", "pointer"),
    [
        ({"parameters": [{"name": "f", "type": "InputFile"}]}, "/functions/0/parameters/0/type"),
        ({"parameters": [{"name": "f", **INPUT}]}, "/functions/0/parameters/0/items"),
        ({"returns": {"type": "OutputFile"}}, "/functions/0/returns/type"),
        ({"returns": {"properties": {"f": {"type": "OutputFile"}}}}, "/functions/0/returns/properties/f/type"),
    ],
)
def test_older_packages_are_refused_with_one_message_that_says_what_to_change(
    older: dict[str, Any], pointer: str
) -> None:
    found = refusals(manifest(functions=[function(**older)]))
    assert set(found) == {pointer}
    assert "older format" in found[pointer]
    assert "data/inputs" in found[pointer]


@pytest.mark.parametrize(
    ("changes", "required"),
    [({}, True), ({"default": "x"}, False), ({"default": None}, False), ({"default": "x", "required": True}, True)],
)
def test_a_parameter_is_required_unless_it_says_otherwise_or_has_a_default(
    changes: dict[str, Any], required: bool
) -> None:
    assert parameter(**changes).parameters[0].required is required


def accepts(schema: dict[str, Any], value: object) -> bool:
    return bool(jsonschema_rs.Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["", "x"], [1, None, []]),
        ("integer", [0, -3, 1.0], [True, 1.5, "1", None]),
        ("number", [0, 1.5], [False, "1"]),
        ("boolean", [True, False], [0, 1, "true"]),
        ("object", [{}, {"a": 1}], [[], "x"]),
        ("array", [[], [1]], [{}, "x"]),
    ],
)
def test_schema_of_each_type(kind: str, good: list[Any], bad: list[Any]) -> None:
    schema = parameters_schema(parameter(type=kind))
    assert all(accepts(schema, {"a": value}) for value in good)
    assert not any(accepts(schema, {"a": value}) for value in bad)
    assert not accepts(schema, {})
    assert not accepts(schema, {"a": good[0], "b": 1})


def test_null_is_accepted_only_where_it_is_the_default() -> None:
    assert accepts(parameters_schema(parameter(default=None, enum=["x"])), {"a": None})
    assert not accepts(parameters_schema(parameter(default="x")), {"a": None})
    assert accepts(parameters_schema(parameter(default="x")), {})


def test_schema_of_enums_and_elements() -> None:
    assert not accepts(parameters_schema(parameter(enum=["x", "y"])), {"a": "z"})
    for items in ("integer", {"type": "integer"}, {"type": "integer", "pattern": "(a+)+$", "$ref": "file:///etc"}):
        schema = parameters_schema(parameter(type="array", items=items))
        assert accepts(schema, {"a": [1, 2]})
        assert not accepts(schema, {"a": [1, "2"]})
        assert not accepts(schema, {"a": [True]})
    nested = parameters_schema(parameter(type="array", items={"type": "array", "items": {"type": "string"}}))
    assert accepts(nested, {"a": [["x"]]})
    assert not accepts(nested, {"a": [[1]]})


def test_schema_of_files() -> None:
    files = {"in": {**INPUT, "maxItems": 2}, "more": {**INPUT, "required": False}, "out": OUTPUT}
    schema = files_schema(one(files=files))
    assert accepts(schema, {"in": ["s3://b/k"]})
    assert accepts(schema, {"in": ["s3://b/k"], "more": []})
    for bad in ({}, {"in": []}, {"in": ["a", "b", "c"]}, {"in": "a"}, {"in": [""]}, {"in": ["a"], "out": ["b"]}):
        assert not accepts(schema, bad)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": "str"}, "type"),
        ({"type": "String"}, "type"),
        ({"required": "yes"}, "required"),
        ({"default": 3}, "default"),
        ({"enum": []}, "enum"),
        ({"enum": ["a", 1]}, "enum"),
        ({"enum": ["a"], "default": "b"}, "default"),
        ({"description": 3}, "description"),
        ({"type": "array", "items": {"type": "Thing"}}, "items/type"),
        ({"name": "a-b"}, "name"),
    ],
)
def test_mistakes_in_parameters_are_warned_of_by_name(changes: dict[str, Any], pointer: str) -> None:
    parsed = parse_manifest(manifest(functions=[function(parameters=[{"name": "a", "type": "string"} | changes])]))
    assert parsed.functions[0].disabled is None
    assert f"/functions/0/parameters/0/{pointer}" in warned(parsed)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"id": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 99999999999999999999999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'"' + b"x" * 1024 * 1024 + b'"',
    ],
)
def test_text_that_is_no_manifest(text: bytes) -> None:
    assert refusals(text)


def test_a_name_that_stands_twice_is_warned_of() -> None:
    text = json.dumps(manifest())[:-1] + ', "id": "other-one"}'
    parsed = parse_manifest(text)
    assert parsed.id == "other-one"
    assert "id" in parsed.warnings[0].message


def test_a_byte_order_mark_is_no_problem() -> None:
    assert parse_manifest(b"\xef\xbb\xbf" + json.dumps(manifest()).encode()).warnings == ()


def test_a_mapping_that_contains_itself_is_refused() -> None:
    endless = manifest()
    endless["self"] = endless
    assert refusals(endless)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(PackageError):
        parse_manifest(raw)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["array", "string", "InputFile", "OutputFile", "greet", "src/main.py", "1Gi"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "items", "required", "default", "enum", "minItems", "maxItems", "a/~b"])
            | st.text(string.printable, max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_functions = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("greet")},
        optional={key: _values for key in ("parameters", "returns", "files", "secrets", "streaming", "timeout")},
    )
    | _values,
    max_size=3,
)


@given(
    st.fixed_dictionaries(
        {"id": st.just("hello-world"), "version": st.just("1.0.0"), "functions": _functions},
        optional={
            key: _values
            for key in ("name", "tags", "entry_point", "execution_environment", "network", "schema_version", "author")
        },
    )
)
def test_any_values_are_read_or_refused(raw: dict[str, Any]) -> None:
    try:
        parsed = parse_manifest(raw)
    except PackageError:
        return
    json.dumps(parsed.raw, allow_nan=False)
    for each in parsed.functions:
        jsonschema_rs.Draft202012Validator(parameters_schema(each))
        jsonschema_rs.Draft202012Validator(files_schema(each))


def test_what_is_wrong_can_be_told_even_where_names_are_no_text():
    with pytest.raises(PackageError) as caught:
        parse_manifest(b'{"\\ud800": {"\\u0000": 1}, "id": "\\udc00"}')
    for problem in caught.value.problems:
        f"{problem.pointer} {problem.message}".encode()


def test_a_secret_may_begin_with_a_digit() -> None:
    assert [secret.name for secret in one(secrets=[{"name": "2CAPTCHA_KEY"}]).secrets] == ["2CAPTCHA_KEY"]


def test_guesses_are_made_only_as_long_as_somebody_hears_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses = []
    monkeypatch.setattr(problems.difflib, "get_close_matches", lambda word, _known, n: guesses.append(word) or [])
    parsed = parse_manifest(manifest(functions=[function(**{f"odd{number}": 0 for number in range(5000)})]))
    assert len(parsed.warnings) == len(guesses) == problems.MAX_PROBLEMS
