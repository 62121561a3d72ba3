"""OpenAPI documents become tools: names, arguments, schemas, effects, addresses; what cannot is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.control.openapi.document import read_document
from engine.control.openapi.services import contracts_of, tool_name
from engine.control.tools import load_catalog
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.core.schemas import schema_problems, value_problems
from engine.settings import IntegrationConfig, OpenApiConfig, Project, ToolsConfig, load_project

OK = {"200": {"description": "fine"}}


def document(paths: dict[str, Any], version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    root = {"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths}
    return {"servers": [{"url": "https://api.example"}], **root, **more}


def tools(root: dict[str, Any] | str, **config: Any) -> dict[str, ToolContract]:
    text = root if isinstance(root, str) else json.dumps(root)
    read = read_document(text, service="shop", source="shop.json", base=config.pop("base", ""))
    return contracts_of(read, OpenApiConfig(document="shop.json", **config))


def only(root: dict[str, Any] | str, **config: Any) -> ToolContract:
    (found,) = tools(root, **config).values()
    assert schema_problems(found.parameters) == []
    return found


def operation(method: str = "get", path: str = "/x", version: str = "3.1.0", **members: Any) -> dict[str, Any]:
    components = members.pop("components", {})
    return document({path: {method: {"operationId": "op", "responses": OK, **members}}}, version, components=components)


def body_of(schema: Any, version: str = "3.1.0", *, media: str = "application/json", **members: Any) -> dict[str, Any]:
    components, required = members.pop("components", {}), members.pop("required", True)
    request = {"required": required, "content": {media: {"schema": schema, **members}}}
    return operation("post", version=version, requestBody=request, components=components)


def refusal(root: dict[str, Any] | str, **config: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        tools(root, **config)
    assert caught.value.code == "config.openapi"
    return f"{caught.value.message} | {caught.value.hint}"


# --- names and choice ----------------------------------------------------------------------------------------------


def test_an_operation_becomes_a_tool_with_the_services_name_in_front() -> None:
    found = only(operation(summary="Read it.", description="All of it."))
    assert (found.name, found.type, found.description) == ("shop_op", "openapi", "Read it.\nAll of it.")
    assert found.spec == {
        "service": "shop",
        "method": "GET",
        "path": "/x",
        "base_url": "https://api.example",
        "parameters": [],
    }


def test_names_are_made_of_what_models_may_call() -> None:
    assert tool_name("shop", "pets.list/all") == "shop_pets_list_all"
    assert tool_name("shop", "get__it-now") == "shop_get__it-now"
    long, other = tool_name("shop", "x" * 90), tool_name("shop", "x" * 91)
    assert len(long) == len(other) == 64
    assert long != other


def test_an_operation_without_an_id_is_called_by_method_and_path() -> None:
    paths = {"/pets/{id}/toys": {"get": {"responses": OK, "parameters": [{"name": "id", "in": "path"}]}}}
    assert set(tools(document(paths))) == {"shop_get_pets_id_toys"}


def test_deprecated_operations_are_left_out() -> None:
    paths = {"/a": {"get": {"operationId": "new"}, "put": {"operationId": "old", "deprecated": True}}}
    assert set(tools(document(paths))) == {"shop_new"}


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["get*"], {"shop_getA", "shop_getB"}),
        (["getA", "put*"], {"shop_getA", "shop_putA"}),
        (["!getA"], {"shop_getB", "shop_putA"}),
        (["get*", "!*B"], {"shop_getA"}),
    ],
)
def test_the_operator_chooses_operations_by_globs(globs: list[str], names: set[str]) -> None:
    paths = {
        "/a": {"get": {"operationId": "getA"}, "put": {"operationId": "putA"}},
        "/b": {"get": {"operationId": "getB"}},
    }
    assert set(tools(document(paths), operations=globs)) == names


def test_what_is_not_offered_may_be_beyond_us() -> None:
    paths = {"/a": {"get": {"operationId": "good"}}, "/b/{c}": {"get": {"operationId": "bad"}}}
    assert "differ in 'c'" in refusal(document(paths))
    assert set(tools(document(paths), operations=["!bad"])) == {"shop_good"}


# --- effects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "effect", "idempotent"),
    [
        ("get", ToolEffect.READ, False),
        ("head", ToolEffect.READ, False),
        ("options", ToolEffect.READ, False),
        ("post", ToolEffect.WRITE, False),
        ("patch", ToolEffect.WRITE, False),
        ("put", ToolEffect.WRITE, True),
        ("delete", ToolEffect.WRITE, True),
    ],
)
def test_the_method_says_what_an_operation_does(method: str, effect: ToolEffect, idempotent: bool) -> None:
    found = only(operation(method))
    assert (found.effect, found.idempotent) == (effect, idempotent)


def test_the_document_says_it_better_and_the_operator_best() -> None:
    paths = {"/x": {"post": {"operationId": "op", "x-everstep-effect": "read", "x-everstep-idempotent": True}}}
    told = document(paths)
    assert (only(told).effect, only(told).idempotent) == (ToolEffect.READ, True)
    found = only(told, effects={"o*": "external"}, idempotent=["!op"])
    assert (found.effect, found.idempotent) == (ToolEffect.EXTERNAL, False)
    assert only(operation("post"), idempotent=["op"]).idempotent is True
    assert "there is no effect 'maybe'" in refusal(document({"/x": {"get": {"x-everstep-effect": "maybe"}}}))


# --- arguments -----------------------------------------------------------------------------------------------------


def test_parameters_and_members_of_the_body_are_one_flat_object() -> None:
    root = document(
        {
            "/pets/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "put": {
                    "operationId": "op",
                    "parameters": [
                        {"name": "X-Trace", "in": "header", "schema": {"type": "string"}, "description": "A mark."},
                        {"name": "dry", "in": "query", "required": True, "schema": {"type": "boolean"}},
                        {"name": "seen", "in": "cookie", "schema": {"type": "string"}},
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "text/plain": {},
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                                    "required": ["name"],
                                }
                            },
                        },
                    },
                },
            }
        }
    )
    found = only(root)
    assert found.parameters == {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "dry": {"type": "boolean"},
            "X-Trace": {"type": "string", "description": "A mark."},
            "seen": {"type": "string"},
            "name": {"type": "string"},
            "age": {"type": "integer"},
        },
        "required": ["id", "dry", "name"],
        "additionalProperties": False,
    }
    assert [(item["argument"], item["in"], item["style"], item["explode"]) for item in found.spec["parameters"]] == [
        ("id", "path", "simple", False),
        ("dry", "query", "form", True),
        ("X-Trace", "header", "simple", False),
        ("seen", "cookie", "form", True),
    ]
    members = {"name": "name", "age": "age"}
    assert found.spec["body"] == {"media": "application/json", "how": "json", "required": True, "members": members}


def test_arguments_of_one_name_each_get_their_place_in_front() -> None:
    root = body_of({"type": "object", "properties": {"id": {}, "filter[a]": {}, "body_id": {}}})
    root["paths"]["/x"]["post"]["parameters"] = [{"name": "id", "in": "query"}, {"name": "filter.a", "in": "query"}]
    found = only(root)
    assert isinstance(found.parameters, dict)
    assert list(found.parameters["properties"]) == ["query_id", "filter.a", "body_id_", "filter_a", "body_id"]
    assert found.spec["body"]["members"] == {"body_id_": "id", "filter_a": "filter[a]", "body_id": "body_id"}


def test_an_operations_parameter_replaces_that_of_its_path() -> None:
    root = operation(parameters=[{"name": "n", "in": "query", "schema": {"type": "integer"}}])
    root["paths"]["/x"]["parameters"] = [{"name": "n", "in": "query", "schema": {"type": "string"}}]
    found = only(root).parameters
    assert isinstance(found, dict)
    assert found["properties"] == {"n": {"type": "integer"}}


def test_a_body_that_may_be_left_out_is_left_out_or_whole() -> None:
    schema = {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["a", "b"]}
    found = only(body_of(schema, required=False)).parameters
    assert value_problems({}, found) == []
    assert value_problems({"a": 1, "b": 2}, found) == []
    assert value_problems({"a": 1}, found) != []
    assert value_problems({"c": 1}, found) != []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"oneOf": [{"type": "object"}, {"type": "null"}]},
        {"type": "object"},
    ],
)
def test_a_body_without_fixed_members_is_one_argument(schema: dict[str, Any]) -> None:
    found = only(body_of(schema))
    assert isinstance(found.parameters, dict)
    assert (found.parameters["properties"], found.parameters["required"]) == ({"body": schema}, ["body"])
    assert found.spec["body"]["argument"] == "body"


def test_all_parts_of_an_object_are_put_together() -> None:
    parts = [{"$ref": "#/components/schemas/Base"}, {"type": "object", "properties": {"b": {}}, "required": ["b"]}]
    base = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    found = only(body_of({"allOf": parts}, components={"schemas": {"Base": base}})).parameters
    assert isinstance(found, dict)
    assert (list(found["properties"]), found["required"]) == (["a", "b"], ["a", "b"])


def test_further_members_of_a_body_are_taken_if_it_says_so() -> None:
    schema = {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}}
    found = only(body_of(schema))
    assert value_problems({"a": "x", "more": 1}, found.parameters) == []
    assert value_problems({"a": "x", "more": "y"}, found.parameters) != []
    assert found.spec["body"]["rest"] is True


def test_what_only_answers_hold_is_no_argument() -> None:
    inner = {"type": "object", "properties": {"id": {"readOnly": True}, "n": {}}, "required": ["id", "n"]}
    schema = {"type": "object", "properties": {"id": {"readOnly": True}, "inner": inner}, "required": ["id", "inner"]}
    found = only(body_of(schema)).parameters
    assert isinstance(found, dict)
    assert (list(found["properties"]), found["required"]) == (["inner"], ["inner"])
    assert found["properties"]["inner"] == {"type": "object", "properties": {"n": {}}, "required": ["n"]}


@pytest.mark.parametrize("media", ["multipart/form-data", "application/x-www-form-urlencoded"])
def test_a_form_has_its_fields_as_arguments(media: str) -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array"}, "f": {"type": "string", "format": "binary"}}}
    found = only(body_of(schema, media=media, encoding={"tags": {"explode": False}}))
    assert isinstance(found.parameters, dict)
    assert set(found.parameters["properties"]) == {"tags", "f"}
    assert found.spec["body"]["joined"] == ["tags"]
    assert found.spec["body"].get("binary") == (["f"] if media.startswith("multipart") else None)


# --- schemas -------------------------------------------------------------------------------------------------------


def property_of(schema: Any, version: str, **components: Any) -> Any:
    root = body_of({"type": "object", "properties": {"p": schema}}, version, components={"schemas": components})
    found = only(root).parameters
    assert isinstance(found, dict)
    return found["properties"]["p"] | ({"$defs": found["$defs"]} if "$defs" in found else {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        (
            {"allOf": [{"type": "string"}], "nullable": True},
            {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]},
        ),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"minimum": 1, "exclusiveMinimum": False}, {"minimum": 1}),
        ({"maximum": 9, "exclusiveMaximum": True, "minimum": 0}, {"minimum": 0, "exclusiveMaximum": 9}),
        ({"type": "string", "example": "x", "xml": {}, "x-own": 1}, {"type": "string", "examples": ["x"]}),
        (
            {
                "type": "object",
                "properties": {"nullable": {"type": "array", "items": {"nullable": True, "type": "integer"}}},
            },
            {"type": "object", "properties": {"nullable": {"type": "array", "items": {"type": ["integer", "null"]}}}},
        ),
        ({"enum": [{"nullable": True}]}, {"enum": [{"nullable": True}]}),
    ],
)
def test_schemas_of_30_become_those_of_2020_12(old: Any, new: Any) -> None:
    assert property_of(old, "3.0.3") == new


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["string", "null"], "examples": ["a"]},
        {"exclusiveMinimum": 1, "const": {"example": 1}},
        {"prefixItems": [{"type": "integer"}], "items": False},
        {"if": {"type": "string"}, "then": {"minLength": 1}},
    ],
)
def test_schemas_of_31_stay_as_they_are(schema: Any) -> None:
    assert property_of(schema, "3.1.0") == schema


@pytest.mark.parametrize("version", ["3.0.0", "3.1.1"])
def test_references_become_definitions_also_in_circles(version: str) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "leaf": {"$ref": LEAF}}}
    found = property_of({"$ref": "#/components/schemas/Node"}, version, Node=node, **{"Leaf/1": {"type": "integer"}})
    assert found["$ref"] == "#/$defs/Node"
    assert value_problems({"next": {"next": {"leaf": 1}}}, found) == []
    assert value_problems({"next": {"next": {"leaf": "x"}}}, found) != []


LEAF = "#/components/schemas/Leaf~11"


def test_two_definitions_of_one_name_stay_two() -> None:
    root = body_of(
        {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/T"}, "b": {"$ref": "#/x-more/T"}}},
        components={"schemas": {"T": {"type": "string"}}},
    )
    found = only({**root, "x-more": {"T": {"type": "integer"}}}).parameters
    assert value_problems({"a": "x", "b": 1}, found) == []
    assert value_problems({"a": "x", "b": "y"}, found) != []


def test_beside_a_reference_30_lets_nothing_count() -> None:
    schema = {"$ref": "#/components/schemas/T", "maxLength": 1}
    assert "maxLength" not in property_of(schema, "3.0.3", T={"type": "string"})
    assert property_of(schema, "3.1.0", T={"type": "string"})["maxLength"] == 1


def test_a_pattern_that_could_take_for_ever_is_left_to_the_service() -> None:
    schema = {"type": "string", "pattern": "^(?=a)b"}
    assert property_of(schema, "3.1.0") == {"type": "string"}
    assert property_of({"pattern": "^a+$"}, "3.1.0") == {"pattern": "^a+$"}


def test_parameters_and_bodies_may_be_references() -> None:
    components = {
        "parameters": {"N": {"name": "n", "in": "query", "schema": {"type": "integer"}}},
        "requestBodies": {"B": {"required": True, "content": {"application/json": {"schema": {"type": "string"}}}}},
    }
    root = operation(
        "post",
        parameters=[{"$ref": "#/components/parameters/N"}],
        requestBody={"$ref": "#/components/requestBodies/B"},
        components=components,
    )
    found = only(root).parameters
    assert isinstance(found, dict)
    assert found["properties"] == {"n": {"type": "integer"}, "body": {"type": "string"}}


# --- credentials and addresses -------------------------------------------------------------------------------------


def test_what_carries_credentials_is_no_argument() -> None:
    schemes = {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}
    names = [("header", "x-key"), ("query", "token"), ("cookie", "sid"), ("header", "Authorization"), ("query", "n")]
    names += [("header", "Idempotency-Key"), ("query", "X-Key")]
    parameters = [{"name": name, "in": place, "required": True} for place, name in names]
    root = operation(parameters=parameters, components={"securitySchemes": schemes})
    found = only(root, auth=[{"query": "token", "env": "SHOP_KEY"}, {"cookie": "sid", "env": "SHOP_KEY"}])
    assert isinstance(found.parameters, dict)
    assert found.parameters["required"] == ["n", "X-Key"]
    assert "SHOP_KEY" not in str(found)


@pytest.mark.parametrize(
    ("servers", "base", "url"),
    [
        ([{"url": "https://a.example/v1/"}], "", "https://a.example/v1"),
        ([{"url": "/v2"}], "https://b.example/docs/openapi.json", "https://b.example/v2"),
        ([], "https://b.example/docs/openapi.json", "https://b.example"),
        ([{"url": "https://{r}.example", "variables": {"r": {"default": "eu"}}}], "", "https://eu.example"),
    ],
)
def test_the_address_comes_from_the_document(servers: Any, base: str, url: str) -> None:
    assert only({**operation(), "servers": servers}, base=base).spec["base_url"] == url
    given = only({**operation(), "servers": servers}, base=base, base_url="http://own:1/")
    assert given.spec["base_url"] == "http://own:1"


def test_an_operation_may_have_a_server_of_its_own() -> None:
    root = operation(servers=[{"url": "https://files.example"}])
    assert only(root).spec["base_url"] == "https://files.example"


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("{", "it is not JSON"),
        ("a: [", "it is not YAML"),
        ("a: 1", "it is no OpenAPI document"),
        ("[]", "it is no OpenAPI document"),
        ('{"swagger": "2.0"}', "it is a document of Swagger 2"),
        ("openapi: 3.2.0", "its version is 3.2.0 | versions 3.0 and 3.1 are read"),
        ("openapi: 3.1.0\nx: &a [*a]", "levels"),
        (document({}), "#/paths: it offers no operation"),
        (document({"x": {}}), "#/paths/x: a path starts with /"),
        (document({"/x": {"get": []}}), "#/paths/~1x/get: an object must stand here"),
        (operation(parameters={}), "#/paths/~1x/get/parameters: a list must stand here"),
        (operation(parameters=[{"name": "a", "in": "body"}]), "/parameters/0: a parameter needs a name, and `in`"),
        (operation(parameters=[{"$ref": "#/nowhere"}]), "/parameters/0/$ref: the reference '#/nowhere' leads nowhere"),
        (operation(parameters=[{"$ref": "a.yaml#/b"}]), "leads out of the document | bundle"),
        (operation(parameters=[{"$ref": "#/paths/~1x/get/parameters/0"}]), "references go in a circle"),
        (operation(path="/x/{a}"), "the path and its parameters differ in 'a'"),
        (
            operation(parameters=[{"name": "a", "in": "query", "style": "odd"}]),
            "the style 'odd' of a parameter in query",
        ),
        (
            operation(parameters=[{"name": "a", "in": "query", "schema": 3}]),
            "/parameters/0/schema: a schema must stand",
        ),
        (operation(parameters=[{"name": "a", "in": "query", "schema": {"type": "text"}}]), "'text' is no type"),
        (operation(parameters=[{"name": "a", "in": "query", "content": {"text/csv": {}}}]), "type text/csv"),
        (operation(requestBody={}), "#/paths/~1x/get/requestBody: a body needs `content`"),
        (body_of({"type": "array"}, media="multipart/form-data"), "must be an object with properties"),
        ({**operation(), "servers": [{"url": "/v1"}]}, "'/v1' is no address with http or https | say where"),
        ({**operation(), "servers": [{"url": "ftp://a.example"}]}, "is no address with http or https"),
        ({**operation(), "servers": [{"url": "https://u:p@a.example"}]}, "holds more than host and path"),
        ({**operation(), "servers": [{"url": "https://{a}.example"}]}, "the variable 'a' has no default"),
        (
            document({"/a": {"get": {"operationId": "x.y"}}, "/b": {"get": {"operationId": "x/y"}}}),
            "#/paths/~1b/get: it would be the tool 'shop_x_y' as well as #/paths/~1a/get",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(root: Any, said: str) -> None:
    told = refusal(root)
    assert said in told
    assert told.startswith("OpenAPI service 'shop': shop.json")


@pytest.mark.parametrize("config", [{"operations": ["nix*"]}, {"effects": {"nix*": "read"}}, {"idempotent": ["!nix*"]}])
def test_a_glob_that_means_nothing_is_a_mistake(config: dict[str, Any]) -> None:
    assert "nix*" in refusal(operation(), **config)


def test_a_yaml_document_is_read_as_json_would_be() -> None:
    text = """
openapi: 3.0.3
info: {title: t, version: 1.0}
servers: [{url: https://api.example}]
paths:
  /x:
    get:
      operationId: op
      parameters:
        - {name: country, in: query, schema: {type: string, enum: [no, on, 2020-01-01, "1"]}}
      responses: {200: {description: fine}}
"""
    found = only(text).parameters
    assert isinstance(found, dict)
    assert found["properties"]["country"]["enum"] == ["no", "on", "2020-01-01", "1"]


# --- the operator's file -------------------------------------------------------------------------------------------


def project_of(folder: Path, text: str) -> Project:
    (folder / "everstep.toml").write_text(text)
    return load_project(folder / "everstep.toml")


def test_a_service_is_registered_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(operation()))
    text = '[tools.openapi.shop]\ndocument = "shop.json"\nauth = {bearer_env = "SHOP_TOKEN"}\ntimeout_s = 5\n'
    contracts = load_catalog(project_of(tmp_path, text), tmp_path).contracts()
    assert set(contracts) == {"shop_op"}
    assert contracts["shop_op"].timeout_s == 5
    assert "SHOP_TOKEN" not in str(contracts)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    project = project_of(tmp_path, '[tools.openapi.shop]\ndocument = "none.yaml"\n')
    with pytest.raises(InvalidInput, match=r"none\.yaml: it cannot be read: No such file") as caught:
        load_catalog(project, tmp_path)
    assert caught.value.code == "config.openapi"


@pytest.mark.parametrize(
    "other",
    [
        {"integrations": {"shop_a_op": IntegrationConfig(provider="wikipedia")}},
        {"modules": ["tools.py"]},
        {"openapi": {"shop_a": OpenApiConfig(document="other.json")}},
    ],
)
def test_two_tools_of_one_name_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    for name, label in (("shop.json", "a_op"), ("other.json", "op")):
        (tmp_path / name).write_text(json.dumps(document({"/x": {"get": {"operationId": label}}})))
    (tmp_path / "tools.py").write_text(
        "from engine.tooling import tool\n\n@tool\ndef shop_a_op(a: int) -> int:\n    return a\n"
    )
    services = {"shop": OpenApiConfig(document="shop.json"), **other.pop("openapi", {})}
    with pytest.raises(InvalidInput, match="two tools are called 'shop_a_op'") as caught:
        load_catalog(Project(folder=tmp_path, tools=ToolsConfig(openapi=services, **other)), tmp_path)
    assert caught.value.code == "config.duplicate_tool"


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ('{bearer_env = "A", header = "X", env = "B"}', "write one of"),
        ('{header = "X"}', "write one of"),
        ('{basic_user_env = "A"}', "write one of"),
        ('{header = "X Y", env = "A"}', "auth.0.header"),
        ('{bearer_env = "sk-very-secret"}', "auth.0.bearer_env"),
        ('{bearer = "A"}', "did you mean"),
    ],
)
def test_a_way_to_say_who_the_worker_is_must_be_whole(tmp_path: Path, auth: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        project_of(tmp_path, f'[tools.openapi.shop]\ndocument = "shop.json"\nauth = {auth}\n')
    assert caught.value.code == "config.invalid"
    assert said in caught.value.message
    assert "sk-very-secret" not in caught.value.message
