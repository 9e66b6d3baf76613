"""A report in headless Chromium as Kubeflow's UI shows it: as srcdoc of an iframe that may run scripts and no more."""

import base64
import contextlib
import fcntl
import html
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the browser's own, which needs rights that containers do not have; not that of the iframe
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # In a process of its own the iframe has sent its first requests before a debugger is there to see them.
    "--disable-features=IsolateSandboxedIframes",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--window-size=1200,1000",
)

WIDTHS = (1200, 560, 400)  # of a window, of Kubeflow's panel, of a telephone, CSS pixels
# How many pixels the page is wider than its iframe.
OVERFLOW = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"


class Browser:
    """Chromium, spoken to in its DevTools protocol over a pair of pipes.

    Attributes:
        errors: what scripts raised and what the browser complained of, in any frame.
        requests: addresses that any frame asked for, but data: ones.
        contexts: for each frame the id of its script context.
    """

    def __init__(self, reading, writing):
        self.reading, self.writing = reading, writing
        self.buffer, self.last_id, self.answers = b"", 0, {}
        self.errors, self.requests, self.contexts = [], [], {}

    def call(self, method, session=None, **parameters):
        """Send a command and return its result."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        os.write(self.writing, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        number = message["id"]
        self.pump(lambda: number in self.answers)
        return self.answers.pop(number).get("result", {})  # an error where the frame has just gone

    def pump(self, done, seconds=600):
        """Take in messages until something holds."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"Chromium said nothing of it for {seconds} s"
            if select.select([self.reading], [], [], 0.1)[0]:
                read = os.read(self.reading, 1 << 20)
                assert read, "Chromium has ended"
                *messages, self.buffer = (self.buffer + read).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message):
        if "id" in message:
            self.answers[message["id"]] = message
            return
        parameters = message["params"]
        match message["method"]:
            case "Runtime.executionContextCreated" if parameters["context"]["auxData"]["isDefault"]:
                context = parameters["context"]
                self.contexts[context["auxData"]["frameId"]] = context["id"]
            case "Runtime.executionContextsCleared":
                self.contexts.clear()
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if parameters["type"] == "error":
                self.errors.append(" ".join(str(a.get("value")) for a in parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.errors.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith("data:"):
                self.requests.append(parameters["request"]["url"])


class Shown:
    """A report in its iframe, with all that the browser noticed of it."""

    def __init__(self, browser, page, session, top_frame):
        self.browser, self.page, self.session, self.top_frame = browser, page, session, top_frame
        browser.pump(lambda: self._ask("`${location} ${document.readyState}`") == "about:srcdoc complete")

    @property
    def errors(self):
        return self.browser.errors

    @property
    def requests(self):
        return [url for url in self.browser.requests if url != self.page]

    def _ask(self, expression):
        """Evaluate inside the iframe; None while it is between two documents."""
        for frame, context in list(self.browser.contexts.items()):
            if frame != self.top_frame:
                asked = {"expression": expression, "contextId": context, "returnByValue": True}
                return self.browser.call("Runtime.evaluate", self.session, **asked).get("result", {}).get("value")
        return None

    def evaluate(self, expression):
        """The value of a JavaScript expression inside the iframe."""
        value = self._ask(expression)
        assert value is not None, f"{expression} has no value"
        return value

    def resize(self, width, height=1000):
        """Give the window, and so the iframe, another size in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.call("Emulation.setDeviceMetricsOverride", self.session, **metrics)
        self.browser.pump(lambda: self._ask("innerWidth") == width)

    def screenshot(self, path):
        """Write what a person would see."""
        path.write_bytes(base64.b64decode(self.browser.call("Page.captureScreenshot", self.session)["data"]))


@contextlib.contextmanager
def chromium(folder):
    """Start the browser with a profile of its own; skips where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if not path:
        pytest.skip(f"none of {', '.join(NAMES)} on PATH")
    pipes = (*os.pipe(), *os.pipe())
    commands, writing, reading, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes)
    for end in pipes:
        os.close(end)
    # Chromium wants its ends to be 3 and 4, which may have been taken.
    shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
    command = ["bash", "-c", shell, path, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(commands, answers), stdout=log, stderr=log)
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(reading, writing)
    finally:
        os.close(writing)  # it ends when nobody can command it any more
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(reading)


@contextlib.contextmanager
def shown_in_iframe(report: str, folder: Path):
    """Show a report as frontend/src/components/viewers/HTMLViewer.tsx of Kubeflow Pipelines does, and yield it."""
    page = folder / "viewer.html"
    page.write_text(
        '<!doctype html><html><body style="margin:0"><iframe sandbox="allow-scripts" style="display:block;'
        f'border:0;width:100%;height:100vh" srcdoc="{html.escape(report)}"></iframe></body></html>'
    )
    with chromium(folder) as browser:
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable", session)
        top_frame = browser.call("Page.navigate", session, url=page.as_uri())["frameId"]
        yield Shown(browser, page.as_uri(), session, top_frame)
