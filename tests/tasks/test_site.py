"""Which files the page may read, and under which addresses."""

import json
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from tasks.site import PAGE, Site, addresses, models
from tests.tasks.released import release, site_in


def test_only_targets_for_webgpu_are_offered(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    release(site.dist, "q4f32_1")
    release(site.dist, "q0f32", target="wasm-cpu")
    release(site.dist, "q0f32", target="my-browser")
    names = [model.name for model in models(site)]
    assert names == ["tiny-q0f32-my-browser", "tiny-q4f32_1-webgpu"]


def test_records_are_those_of_web_llm(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    release(site.dist, "q4f16_1")
    (model,) = models(site)
    base = model.record["model"].removesuffix("/resolve/main/")
    assert model.record == {
        "model_id": "tiny-q4f16_1-webgpu",
        "model": f"{base}/resolve/main/",
        "model_lib": f"{base}/library.wasm",
        "required_features": ["shader-f16"],
        "size": 15,
    }
    assert {address: path.name for address, path in model.files.items()} == {
        f"{base}/library.wasm": "tiny-q4f16_1-webgpu.wasm",
        f"{base}/resolve/main/mlc-chat-config.json": "mlc-chat-config.json",
        f"{base}/resolve/main/params_shard_0.bin": "params_shard_0.bin",
    }


def test_float32_needs_no_feature(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    release(site.dist, "q4f32_1")
    assert models(site)[0].record["required_features"] == []


def test_other_content_has_another_address(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    release(site.dist, "q0f32")
    before = models(site)[0].record
    release(site.dist, "q0f32", weights=b"other")
    after = models(site)[0].record
    assert before["model"] != after["model"]
    assert before["model_lib"] != after["model_lib"]


def test_nothing_is_addressed_but_the_page_web_llm_and_models(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    release(site.dist, "q0f32")
    (site.page / "notes.txt").touch()
    (site.dist / "libs" / "other.wasm").touch()
    (model,) = models(site)
    page = {"/", *(f"/{name}" for name in PAGE)}
    assert set(addresses(site)) == page | {"/web-llm/index.js"} | set(model.files)


def test_the_page_is_all_there() -> None:
    page = Path(__file__).resolve().parents[2] / "examples" / "web"
    assert {path.name for path in page.iterdir()} == set(PAGE)


@pytest.mark.parametrize(
    "name", ["../secret", "tiny-MLC/../../secret", "/etc/passwd", "tiny-MLC/link"]
)
def test_a_manifest_reaches_nothing_outside_dist(tmp_path: Path, name: str) -> None:
    site = site_in(tmp_path)
    manifest = release(site.dist, "q0f32")
    (tmp_path / "secret").write_text("secret")
    (site.dist / "tiny-MLC").mkdir()
    (site.dist / "tiny-MLC" / "link").symlink_to(tmp_path / "secret")
    value = json.loads(manifest.read_text())
    value["files"][name] = {"sha256": "0" * 64, "size": 6}
    manifest.write_text(json.dumps(value))
    with pytest.raises(OlmoError, match="outside"):
        models(site)


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": 1}', "{"])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    site: Site = site_in(tmp_path)
    release(site.dist, "q0f32").write_text(text)
    with pytest.raises(OlmoError, match=r"tiny-q0f32-webgpu\.json"):
        models(site)
