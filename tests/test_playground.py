"""The page that computes, in a real browser: typed into, read, and compared with what Python says here."""

import json
import os
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from obverse.answers import answer, read_shape
from obverse.expressions import parse

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/playground"
RUNTIME = PAGE / "runtime"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LONG = 120_000  # milliseconds that loading Python may take on a busy machine

missing = [what for what, there in (("Chromium", CHROMIUM), ("the runtime (npm)", RUNTIME.is_dir())) if not there]
needs_browser = pytest.mark.skipif(
    bool(missing) and not os.environ.get("CI"), reason=f"without {' and '.join(missing)} no page can be tried"
)


class Quiet(SimpleHTTPRequestHandler):
    """A server that says nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/playground/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, address):
    """Open the page in a fresh browser; whatever it complains of, or asks of other hosts, is a failure."""
    contexts, wrong = [], []

    def opened(fragment="", **how):
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda asked: asked.url.startswith((address[:17], "data:", "blob:")) or wrong.append(asked.url)
        )
        page.goto(address + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def start(page):
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("document.getElementById('computed').dataset.state === 'answered'", timeout=LONG)


def answered(page, encoder, shape, upsampling="transpose"):
    """What the page says of an encoder, once it is what Python says here."""
    said = answer(parse(encoder), read_shape(shape), upsampling)
    page.get_by_label("Encoder").fill(encoder)
    page.get_by_label("Input shape").fill(shape)
    page.get_by_label("Upsampling").select_option(upsampling)
    expected = json.dumps(said["pytorch"])
    page.wait_for_function(f"document.querySelector('[data-part=pytorch]').textContent === {expected}", timeout=LONG)
    return said


def shapes(page, part):
    return page.locator(f"[data-part={part}] tbody tr td:nth-child(3)").all_text_contents()


def written(plan):
    steps = [plan["input_shape"], *[step["output_shape"] for step in plan["steps"]], plan["output_shape"]]
    return ["×".join(map(str, shape)) for shape in steps]


ENCODERS = [
    ("Conv(16, 3, stride=2, padding=1) >> ReLU() >> Conv(12, 7)", "1x28x27", "transpose"),
    ("Conv(8, 4, stride=3, padding='same') >> MaxPool(3, ceil_mode=True)", "3 x 41 x 37", "resize"),
    ("Residual(Conv(8, 3, padding=1)\n>> ReLU()) >> Flatten() >> Linear(9)", "(8, 12)", "transpose"),
    ("Rearrange('c (h p) w -> (c p) h w', p=2) >> Conv(4, 3, stride=2)", "1,12,9", "subpixel"),
]


def test_the_runtime_is_made_of_these_sources():
    if not RUNTIME.is_dir() and not os.environ.get("CI"):
        pytest.skip("the runtime is not there: python tools/playground.py")
    (wheel,) = RUNTIME.glob("obverse-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name in (name for name in packed.namelist() if name.startswith("obverse/")):
            assert packed.read(name) == (ROOT / "src" / name).read_bytes(), "run python tools/playground.py"
        assert "obverse/__init__.pyi" in packed.namelist()


@needs_browser
def test_it_says_what_python_says(visit):
    page = visit()
    assert page.locator("[data-part=answers]").is_hidden()
    start(page)
    for encoder, shape, upsampling in ENCODERS:
        said = answered(page, encoder, shape, upsampling)
        assert shapes(page, "plan") == written(said["plan"])
        assert shapes(page, "mirror") == written(said["mirror"]["plan"])
        assert page.locator("[data-part=obverse]").text_content() == said["obverse"]
        drawn = page.locator("[data-part=picture] svg text").all_text_contents()
        assert all("×".join(map(str, step["output_shape"])) in drawn for step in said["plan"]["steps"][:1])
        legal = page.locator("[data-part=sizes] li").all_text_contents()
        assert len(legal) == len(said["sizes"])
        assert all(axis["takes"] in line for axis, line in zip(said["sizes"], legal, strict=True))
    _mistakes_are_explained(page)
    _the_address_brings_it_back(page, visit)


def _mistakes_are_explained(page):
    page.get_by_label("Encoder").fill("Conv(8, 3) >> Convv(3)")
    alert = page.get_by_role("alert").filter(has_text="no block is called 'Convv'")
    alert.wait_for(timeout=LONG)
    assert "Did you mean 'Conv'?" in alert.text_content()
    assert page.get_by_label("Encoder").get_attribute("aria-invalid") == "true"
    page.get_by_label("Encoder").fill("Conv(8, 9)")
    page.get_by_label("Input shape").fill("1x5x5")
    page.get_by_role("alert").filter(has_text="the kernel spans 9 cells").wait_for(timeout=LONG)
    assert page.get_by_label("Input shape").get_attribute("aria-invalid") == "true"
    page.get_by_label("Encoder").fill("Conv('<img src=x onerror=alert(1)>', 3)")
    page.get_by_role("alert").filter(has_text="<img src=x").wait_for(timeout=LONG)
    page.get_by_label("Encoder").fill("Conv(8, 3)")
    page.wait_for_function("document.querySelector('[data-part=plan]').textContent.includes('8×3×3')", timeout=LONG)
    assert page.locator("[data-part=wrong]").is_hidden()


def _the_address_brings_it_back(page, visit):
    answered(page, "Conv(8, 3, stride=2) >> Tanh()", "1x9x9", "subpixel")
    fragment = page.evaluate("location.hash")
    other = visit(fragment)
    assert other.get_by_label("Encoder").input_value() == "Conv(8, 3, stride=2) >> Tanh()"
    assert other.get_by_label("Input shape").input_value() == "1x9x9"
    assert other.get_by_label("Upsampling").input_value() == "subpixel"


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_screen_and_the_keyboard(visit, width, tmp_path):
    page = visit(viewport={"width": width, "height": 800}, color_scheme="dark" if width == 360 else "light")
    page.get_by_label("Encoder").focus()
    for focused in ("A", "INPUT", "SELECT", "SELECT", "BUTTON"):  # a link, the fields in their order, the button
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == focused
    assert page.evaluate("document.activeElement.textContent") == "Start"
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('computed').dataset.state === 'answered'", timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("status").text_content().startswith("1×28×28 becomes 12×1×1")
    unnamed = (
        "[...document.querySelectorAll('#computed :is(input, select, textarea)')].filter(one => !one.labels.length)"
    )
    assert page.evaluate(f"{unnamed}.length") == 0
    pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    page.screenshot(path=pictures / f"playground-{width}.png", full_page=True)


@needs_browser
def test_without_the_runtime_it_says_so(visit, browser):
    page = visit()
    page.route("**/runtime/**", lambda route: route.fulfill(status=404))
    page.reload()
    page.get_by_role("status").filter(has_text="built without the runtime").wait_for()
    assert page.get_by_role("button", name="Start").is_disabled()
    assert page.get_by_text("12×1×1").first.is_visible()  # of the example that stands there anyway


@needs_browser
def test_without_scripts_it_says_so(visit):
    page = visit(java_script_enabled=False)
    assert page.get_by_text("This page computes with JavaScript").is_visible()
    assert page.locator("#computed").is_hidden()
