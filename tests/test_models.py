"""What a model accepts, and the sentences that say what it does not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutoscope.models import ANIMATIC, MODELS, SKYREELS, InputError, parse_input, schema_of, shown
from mutoscope.tasks import MAX_SEED

MODEL = MODELS[ANIMATIC]
URL = "https://example.com/a.png"
GOOD = {"prompt": "a cat", "images": [URL]}


def parse(**inputs: Any) -> Any:
    return parse_input(MODEL, {**GOOD, **inputs})


def test_the_models_are_these_two() -> None:
    assert (
        list(MODELS)
        == [
            "skywork-ai/skyreels-v3/reference-to-video",
            "mutoscope/animatic/reference-to-video",
        ]
        == [SKYREELS, ANIMATIC]
    )


def test_defaults() -> None:
    request = parse_input(MODEL, GOOD)
    assert (request.prompt, request.images, request.aspect_ratio, request.duration) == ("a cat", (URL,), "16:9", 5)
    assert 0 <= request.seed <= MAX_SEED


@pytest.mark.parametrize("field", ["aspect_ratio", "duration", "seed"])
def test_null_is_absent(field: str) -> None:
    assert parse(seed=1, **{field: None} if field != "seed" else {}) == parse(seed=1)
    if field == "seed":
        assert 0 <= parse(seed=None).seed <= MAX_SEED


@pytest.mark.parametrize("field", ["prompt", "images"])
def test_null_for_a_required_field_is_missing(field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} is missing: it must be "):
        parse(**{field: None})


def test_unknown_fields_are_ignored() -> None:
    noise = {"loras": [], "size": "832*480", "negative_prompt": "", "webhook_url": "https://x", "model": 5, "": None}
    assert parse(seed=3, **noise) == parse(seed=3)


@pytest.mark.parametrize(
    ("inputs", "attribute", "value"),
    [
        ({"prompt": "x"}, "prompt", "x"),
        ({"prompt": "  a \n"}, "prompt", "a"),
        ({"prompt": " " * 9 + "é" * 5000 + "\t"}, "prompt", "é" * 5000),
        ({"prompt": "🐈" * 5000}, "prompt", "🐈" * 5000),
        ({"images": [URL] * 4}, "images", (URL,) * 4),
        ({"images": [f"  {URL}\n"]}, "images", (URL,)),
        ({"images": ["HTTP://h/a"]}, "images", ("HTTP://h/a",)),
        ({"images": ["data:image/png;base64,AAAA"]}, "images", ("data:image/png;base64,AAAA",)),
        ({"images": ["DATA:;base64,AAAA"]}, "images", ("DATA:;base64,AAAA",)),
        ({"images": ["https://h/" + "a" * 8182]}, "images", ("https://h/" + "a" * 8182,)),
        ({"aspect_ratio": "16:9"}, "aspect_ratio", "16:9"),
        ({"aspect_ratio": "9:16"}, "aspect_ratio", "9:16"),
        ({"aspect_ratio": "1:1"}, "aspect_ratio", "1:1"),
        ({"duration": 5}, "duration", 5),
        ({"duration": 7.0}, "duration", 7),
        ({"duration": 10}, "duration", 10),
        ({"seed": 0}, "seed", 0),
        ({"seed": 2**63 - 1}, "seed", 2**63 - 1),
        ({"seed": 1e3}, "seed", 1000),
    ],
)
def test_accepted(inputs: dict[str, Any], attribute: str, value: Any) -> None:
    assert getattr(parse(**inputs), attribute) == value


PROMPT = "prompt must be a text of 1 to 5,000 characters."
IMAGES = "images must be a list of 1 to 4 http(s) URLs or data:image/…;base64 URIs."
SHAPE = "aspect_ratio must be one of 16:9, 9:16, 1:1."
DURATION = "duration must be a whole number from 5 to 10."
SEED = "seed must be a whole number from 0 to 9223372036854775807, or -1 to have one drawn."

REFUSED = [
    ({"prompt": ""}, f'prompt is "": {PROMPT}'),
    ({"prompt": " \t\n\u3000"}, f'prompt is "": {PROMPT}'),
    ({"prompt": "a" * 5001}, f"prompt is 5,001 characters long: {PROMPT}"),
    ({"prompt": 5}, f"prompt is 5: {PROMPT}"),
    ({"prompt": True}, f"prompt is true: {PROMPT}"),
    ({"prompt": ["a"]}, f'prompt is ["a"]: {PROMPT}'),
    ({"prompt": {"a": 1}}, f'prompt is {{"a": 1}}: {PROMPT}'),
    ({"images": []}, f"images is []: {IMAGES}"),
    ({"images": [URL] * 5}, f"images is 5 items long: {IMAGES}"),
    ({"images": URL}, f'images is "{URL}": {IMAGES}'),
    ({"images": {"0": URL}}, f'images is {{"0": "{URL}"}}: {IMAGES}'),
    ({"images": [URL, ""]}, f'images[1] is "": {IMAGES}'),
    ({"images": [URL, None]}, f"images[1] is null: {IMAGES}"),
    ({"images": [7]}, f"images[0] is 7: {IMAGES}"),
    ({"images": [[URL]]}, f'images[0] is ["{URL}"]: {IMAGES}'),
    ({"images": ["ftp://h/a.png"]}, f'images[0] is "ftp://h/a.png": {IMAGES}'),
    ({"images": ["file:///etc/passwd"]}, f'images[0] is "file:///etc/passwd": {IMAGES}'),
    ({"images": ["file:uploads/x"]}, f'images[0] is "file:uploads/x": {IMAGES}'),
    ({"images": ["photo.jpg"]}, f'images[0] is "photo.jpg": {IMAGES}'),
    ({"images": ["//h/a.png"]}, f'images[0] is "//h/a.png": {IMAGES}'),
    ({"images": ["https://h/" + "a" * 8183]}, f'images[0] is "https://h/{"a" * 68}…: {IMAGES}'),
    ({"aspect_ratio": "4:3"}, f'aspect_ratio is "4:3": {SHAPE}'),
    ({"aspect_ratio": "16:9 "}, f'aspect_ratio is "16:9 ": {SHAPE}'),
    ({"aspect_ratio": ""}, f'aspect_ratio is "": {SHAPE}'),
    ({"aspect_ratio": 1}, f"aspect_ratio is 1: {SHAPE}"),
    ({"duration": 4}, f"duration is 4: {DURATION}"),
    ({"duration": 11}, f"duration is 11: {DURATION}"),
    ({"duration": 5.5}, f"duration is 5.5: {DURATION}"),
    ({"duration": "5"}, f'duration is "5": {DURATION}'),
    ({"duration": True}, f"duration is true: {DURATION}"),
    ({"duration": float("nan")}, f"duration is NaN: {DURATION}"),
    ({"duration": float("inf")}, f"duration is Infinity: {DURATION}"),
    ({"duration": 1e300}, f"duration is {int(1e300)!s:.79}…: {DURATION}"),
    ({"duration": [5]}, f"duration is [5]: {DURATION}"),
    ({"seed": -2}, f"seed is -2: {SEED}"),
    ({"seed": 2**63}, f"seed is 9223372036854775808: {SEED}"),
    ({"seed": 0.5}, f"seed is 0.5: {SEED}"),
    ({"seed": "1"}, f'seed is "1": {SEED}'),
    ({"seed": False}, f"seed is false: {SEED}"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "sentence"), REFUSED, ids=[sentence[:60] for _, sentence in REFUSED])
def test_refused_with_field_value_and_what_is_allowed(inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse(**inputs)
    assert str(error.value) == sentence


@pytest.mark.parametrize("field", ["prompt", "images"])
def test_missing(field: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(InputError, match=f"^{field} is missing: it must be a (text|list) of 1 to "):
        parse_input(MODEL, body)


@pytest.mark.parametrize("body", [None, [], "text", 5, True])
def test_a_body_that_is_no_object(body: Any) -> None:
    with pytest.raises(InputError, match="must be a JSON object"):
        parse_input(MODEL, body)


def test_a_seed_is_drawn_anew_each_time() -> None:
    assert len({parse(seed=-1).seed for _ in range(20)} | {parse().seed for _ in range(20)}) == 40


def test_a_value_nested_too_deep_is_still_a_sentence() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "nested too deep"
    with pytest.raises(InputError, match=r"^prompt is nested too deep"):
        parse(prompt=value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["prompt", "images", "aspect_ratio", "duration", "seed", "x"]), json_values))
def test_any_json_is_a_request_or_a_sentence(body: dict[str, Any]) -> None:
    try:
        request = parse_input(MODEL, body)
    except InputError as error:
        sentence = str(error)
    else:
        sentence = ""
    if sentence:
        assert re.match(r"(prompt|images|aspect_ratio|duration|seed)(\[\d+\])? is .+: ", sentence, re.DOTALL)
        assert len(sentence) < 300
        return
    assert 1 <= len(request.prompt) <= 5000
    assert 1 <= len(request.images) <= 4
    assert request.aspect_ratio in ("16:9", "9:16", "1:1")
    assert type(request.duration) is int
    assert 5 <= request.duration <= 10
    assert 0 <= request.seed <= MAX_SEED


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_the_schema_says_what_is_accepted(model: Any) -> None:
    schema = schema_of(model)
    assert schema["required"] == ["prompt", "images"]
    assert schema["x-order-properties"] == ["prompt", "images", "aspect_ratio", "duration", "seed", "resolution"]
    properties = schema["properties"]
    assert (properties["prompt"]["minLength"], properties["prompt"]["maxLength"]) == (1, 5000)
    assert (properties["images"]["minItems"], properties["images"]["maxItems"]) == (1, 4)
    assert properties["images"]["items"] == {"type": "string"}
    assert properties["aspect_ratio"]["enum"] == ["16:9", "9:16", "1:1"]
    assert properties["aspect_ratio"]["default"] == "16:9"
    duration = properties["duration"]
    assert [duration[name] for name in ("type", "minimum", "maximum", "default")] == ["integer", 5, 10, 5]
    assert properties["seed"]["maximum"] == MAX_SEED
    json.dumps(schema)
