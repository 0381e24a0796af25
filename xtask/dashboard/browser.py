"""Chromium without a window, driven over the DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import websocket

# A machine that is loaded takes its time; nothing is measured by this.
PATIENCE = 60


class Browser:
    def __init__(self, program):
        self.directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = Path(self.directory.name)
        arguments = [
            program,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            # Whatever a page asks for elsewhere is not there.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--lang=en-US",
        ]
        # Its sandbox does not work for root.
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        self.process = subprocess.Popen([*arguments, "about:blank"], stderr=subprocess.DEVNULL)
        port = wait_for(lambda: read(profile / "DevToolsActivePort"))
        address, path = port.splitlines()[:2]
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{address}{path}", timeout=PATIENCE, suppress_origin=True
        )
        self.number = 0
        self.events = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.directory.cleanup()

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        """The value of a script, also of one that takes its time."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script):
        return wait_for(lambda: self.run(script))

    def press(self, key, code, text=""):
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def media(self, scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def width(self, width):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def complaints(self):
        """What the console has to say that is no mere note."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                if parameters["type"] in ("error", "warning", "assert"):
                    found.append(parameters["args"])
            elif event.get("method") == "Log.entryAdded":
                if parameters["entry"]["level"] in ("error", "warning"):
                    found.append(parameters["entry"])
        return found

    def requests(self):
        asked = [it for it in self.events if it.get("method") == "Network.requestWillBeSent"]
        return [it["params"]["request"]["url"] for it in asked]


def read(path):
    try:
        return path.read_text() or None
    except FileNotFoundError:
        return None


def wait_for(what):
    """The first answer that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.1)
    raise TimeoutError("it never came")
