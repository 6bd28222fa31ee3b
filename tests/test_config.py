"""Settings: each has a variable, a default and a sentence; a bad one is named."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from mutoscope.config import Settings, SettingsError, load_settings
from mutoscope.files import open_files

DEFAULTS: dict[str, Any] = {
    "database_url": "",
    "files_url": "",
    "public_url": "",
    "sandbox": False,
    "lease_seconds": 15,
    "max_attempts": 3,
    "retention_days": 7,
    "sync_seconds": 90,
    "max_queued": 100_000,
    "max_body_bytes": 220 * 2**20,
    "max_image_bytes": 30 * 2**20,
    "max_image_pixels": 40_000_000,
    "min_image_side": 64,
    "fetch_seconds": 10,
    "max_redirects": 3,
    "allow_networks": (),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MUTOSCOPE_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_default_and_a_sentence(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert field.description.endswith(".")
    assert len(field.description) < 120
    assert not field.is_required()


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults(name: str, value: Any) -> None:
    assert getattr(load_settings(), name) == value


def test_everything_lies_in_one_home_folder() -> None:
    settings = load_settings()
    assert settings.home == Path.home() / ".mutoscope"
    assert settings.database == f"sqlite:///{settings.home}/mutoscope.db"
    assert settings.files == f"file://{settings.home}/files"
    assert settings.scratch == settings.home / "scratch"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("home", "~/x", Path.home() / "x"),
        ("home", "x", Path.cwd() / "x"),
        ("database_url", "postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("files_url", "file:///srv/files", "file:///srv/files"),
        ("public_url", "https://video.example/", "https://video.example"),
        ("sandbox", "1", True),
        ("sandbox", "false", False),
        ("lease_seconds", "0.5", 0.5),
        ("stall_seconds", "60", 60),
        ("max_attempts", "1", 1),
        ("max_losses", "7", 7),
        ("retention_days", "0.01", 0.01),
        ("sync_seconds", "1", 1),
        ("max_queued", "3", 3),
        ("ray_address", "ray://10.0.0.1:10001", "ray://10.0.0.1:10001"),
        ("database_connections", "5", 5),
        ("files_public_endpoint", "https://s3.example.com", "https://s3.example.com"),
        ("max_queued_per_account", "2", 2),
        ("max_queue_seconds", "60", 60),
        ("prices", '{"a/model": 30000}', {"a/model": 30_000}),
        ("discount_rate", "0.9", 0.9),
        ("max_body_bytes", "1024", 1024),
        ("max_image_bytes", "2048", 2048),
        ("max_image_pixels", "5000", 5000),
        ("min_image_side", "1", 1),
        ("fetch_seconds", "2.5", 2.5),
        ("max_redirects", "0", 0),
        ("engines", "animatic, skyreels-v3", ("animatic", "skyreels-v3")),
        ("metrics_token", "see", "see"),
        ("log_format", "json", "json"),
        ("skyreels_weights", "/srv/weights", Path("/srv/weights")),
        ("skyreels_mode", "strict", "strict"),
        ("skyreels_precision", "float32", "float32"),
        ("skyreels_device", "cuda:1", "cuda:1"),
        ("skyreels_noise_on_device", "1", True),
        ("skyreels_gpus", "4", 4),
        ("skyreels_placement", "blocks offloaded", "blocks offloaded"),
        ("skyreels_attention", "flash", "flash"),
        ("skyreels_compile", "1", True),
        ("skyreels_steps", "12", 12),
        ("skyreels_text_guidance", "7.5", 7.5),
        ("skyreels_image_guidance", "5", 5),
        ("skyreels_negative_prompt", "blurred", "blurred"),
        ("skyreels_previews", "0", False),
        ("skyreels_cache_bytes", "0", 0),
        ("skyreels_cache_memory_bytes", "1000", 1000),
        ("max_resolution", "540p", "540p"),
        ("allow_networks", "10.0.0.1/8, fd00::/8,", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    ],
)
def test_each_is_set_by_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
    monkeypatch.setenv(f"MUTOSCOPE_{name.upper()}", text)
    assert getattr(load_settings(), name) == value


def test_no_setting_is_left_out_above() -> None:
    marks = test_each_is_set_by_its_variable.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = getattr(load_settings(), name)
    monkeypatch.setenv(f"MUTOSCOPE_{name.upper()}", "")
    assert getattr(load_settings(), name) == default


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("public_url", "video.example"),
        ("public_url", "ftp://video.example"),
        ("sandbox", "maybe"),
        ("lease_seconds", "soon"),
        ("lease_seconds", "0"),
        ("lease_seconds", "-5"),
        ("lease_seconds", "nan"),
        ("lease_seconds", "inf"),
        ("stall_seconds", "0"),
        ("max_attempts", "0"),
        ("max_attempts", "1.5"),
        ("max_losses", "0"),
        ("retention_days", "0"),
        ("retention_days", "1e9"),
        ("sync_seconds", "inf"),
        ("max_queued", "0"),
        ("max_body_bytes", "5MB"),
        ("max_image_bytes", "0"),
        ("max_image_pixels", "1"),
        ("min_image_side", "0"),
        ("fetch_seconds", "0"),
        ("max_redirects", "-1"),
        ("allow_networks", "here"),
        ("allow_networks", "10.0.0.0/99"),
        ("allow_networks", "10.0.0.0/8;127.0.0.0/8"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_it(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"MUTOSCOPE_{name.upper()}", text)
    with pytest.raises(SettingsError) as error:
        load_settings()
    sentence = str(error.value)
    assert sentence.startswith(f"MUTOSCOPE_{name.upper()} is '{text}', which can't be used: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTOSCOPE_SANDBOX", "1")
    assert load_settings(sandbox=False).sandbox is False
    assert load_settings(sandbox=None).sandbox is True


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().sandbox = True  # type: ignore[misc]


def test_a_home_with_odd_letters(tmp_path: Path) -> None:
    home = tmp_path / "a b#c?d%41é"
    settings = load_settings(home=home)
    assert make_url(settings.database).database == str(home / "mutoscope.db")
    assert open_files(settings.files).root == home / "files"
