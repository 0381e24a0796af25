"""The page of `gpupin serve` in Chromium, and its metrics in the parsers of Prometheus.

Run by `cargo xtask ci dashboard`, which sets `GPUPIN` to the program and `CHROMIUM` to the browser. What the page looked like is left in
`DASHBOARD_PICTURES`, if that is set.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import axe_playwright_python
from browser import PATIENCE, Browser, wait_for
from prometheus_client.parser import text_string_to_metric_families

GPUPIN = os.environ["GPUPIN"]
SCENES = Path(__file__).parents[2] / "scenes"
POLICY = '[gpu]\nname = "RTX 3090"\n'
FAULT = "\n[[fault]]\nfunction = 'nvmlDeviceGetCount'\nreturn = 'unknown'\n"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()

# How many pixels of a line's colour a drawing has, as it is on the screen.
PIXELS = """
(async () => {
  const bytes = Uint8Array.from(atob("PICTURE"), (it) => it.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "STROKE";
  context.fillRect(0, 0, 1, 1);
  const wanted = context.getImageData(0, 0, 1, 1).data;
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, picture.width, picture.height).data;
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const differs = [0, 1, 2].some((it) => Math.abs(data[at + it] - wanted[it]) > 12);
    if (!differs) count += 1;
  }
  return count;
})()
"""


class Service:
    """`gpupin serve` on a machine whose processes and leases are really there, and whose GPUs are not."""

    def __init__(self, scene, is_under_simulator=True):
        self.directory = tempfile.TemporaryDirectory()
        root = Path(self.directory.name)
        self.scene = root / "scene.toml"
        self.scene.write_text(scene)
        (root / "gpupin.toml").write_text(POLICY)
        state = root / "state"
        state.mkdir(mode=0o700)
        self.environment = {"PATH": os.environ["PATH"], "GPUPIN_STATE_DIR": str(state)}
        self.environment["XDG_STATE_HOME"] = str(root / "history")
        serve = [GPUPIN, "serve", "--listen", "127.0.0.1:0", "--period", "200ms"]
        if is_under_simulator:
            command = [GPUPIN, "sim", "--scene", str(self.scene), "--", *serve]
        else:
            command = [*serve, "--machine", str(self.scene)]
        self.root = root
        self.process = self.start(command, stdout=subprocess.PIPE)
        self.address = self.process.stdout.readline().strip()
        self.holder = self.start(
            [GPUPIN, "lease", "hold", "--machine", str(self.scene), "--", "sleep", "1000"]
        )
        self.waiter = self.start(
            [GPUPIN, "lease", "hold", "--machine", str(self.scene), "--", "sleep", "1001"]
        )

    def start(self, command, stdout=subprocess.DEVNULL):
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def change(self, scene):
        new = self.root / "new"
        new.write_text(scene)
        new.rename(self.scene)

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def close(self):
        for process in [self.waiter, self.holder, self.process]:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        self.process.stdout.close()
        self.directory.cleanup()


def scene(name):
    return (SCENES / f"{name}.toml").read_text()


class Dashboard(unittest.TestCase):
    def open(self, service):
        browser = Browser(os.environ["CHROMIUM"])
        self.addCleanup(browser.close)
        browser.width(1280)
        browser.call("Page.navigate", url=service.address)
        browser.wait("document.querySelectorAll('.card').length > 0")
        return browser

    def serve(self, *arguments, **options):
        service = Service(*arguments, **options)
        self.addCleanup(service.close)
        return service

    def check_axe(self, browser, what):
        browser.run(AXE + "; true")
        result = browser.run("axe.run().then((it) => JSON.stringify(it))")
        result = json.loads(result)
        self.assertGreater(len(result["passes"]), 15, what)
        found = [
            (it["id"], it["help"], [node["target"] for node in it["nodes"]])
            for it in result["violations"]
        ]
        self.assertEqual(found, [], what)

    def picture(self, browser, name, **clip):
        data = browser.call("Page.captureScreenshot", format="png", **clip)["data"]
        if directory := os.environ.get("DASHBOARD_PICTURES"):
            Path(directory, f"{name}.png").write_bytes(base64.b64decode(data))
        return data

    def test_the_page_shows_the_machine_to_everybody(self):
        service = self.serve(scene("busy"))
        browser = self.open(service)
        browser.wait("document.querySelectorAll('#leases tbody tr').length === 2")
        text = browser.run("document.body.innerText")
        for expected in ["RTX 3090", "RTX 5060 Ti", "train.py --epochs 10", "Simulated", "18 GiB"]:
            self.assertIn(expected, text)
        # Every line is drawn where it should be, in either scheme, once there is something to draw.
        browser.wait("!!document.querySelector('path')?.getAttribute('d')?.includes('L')")
        for scheme in ["light", "dark"]:
            browser.media(scheme)
            for width in [1280, 360]:
                browser.width(width)
                # Too wide is what one has to push to and fro.
                self.assertLessEqual(browser.run("document.documentElement.scrollWidth"), width)
                for language in ["en", "fr"]:
                    browser.run(f"document.querySelector('[data-language={language}]').click()")
                    self.check_axe(browser, f"{scheme}, {width} px, {language}")
                    self.picture(
                        browser, f"{scheme}-{width}-{language}", captureBeyondViewport=True
                    )
            browser.width(1280)
            for series in ["memory", "busy", "heat", "power"]:
                count = self.pixels(browser, series)
                self.assertGreater(count, 10, f"{series}, {scheme}")
        self.assertEqual(browser.complaints(), [])
        asked = browser.requests()
        self.assertGreater(len(asked), 3)
        for address in asked:
            self.assertTrue(address.startswith(service.address), address)

    def pixels(self, browser, series):
        """Of the line of the GPU that works."""
        place = f"document.querySelector('.card:nth-of-type(2) [data-series={series}] svg')"
        browser.run(f"{place}.scrollIntoView({{ block: 'center' }})")
        box = browser.run(
            f"(() => {{ const it = {place}.getBoundingClientRect(); return "
            "{ x: it.x + scrollX, y: it.y + scrollY, width: it.width, height: it.height }; })()"
        )
        stroke = browser.run(f"getComputedStyle({place}.firstElementChild).stroke")
        data = self.picture(browser, f"line-{series}", clip={**box, "scale": 1})
        return browser.run(PIXELS.replace("PICTURE", data).replace("STROKE", stroke))

    def test_everything_can_be_reached_with_the_keyboard(self):
        browser = self.open(self.serve(scene("busy")))
        reached = []
        for _ in range(30):
            browser.press("Tab", 9)
            now = browser.run(
                "document.activeElement.dataset.language ?? document.activeElement.getAttribute('href')"
                " ?? document.activeElement.getAttribute('role')"
            )
            if now == "fr":
                browser.press("Enter", 13, "\r")
            reached.append(now)
        for expected in ["#main", "en", "fr", "region", "/metrics"]:
            self.assertIn(expected, reached)
        self.assertEqual(browser.run("document.documentElement.lang"), "fr")
        self.assertIn("Processus", browser.run("document.body.innerText"))

    def test_who_has_the_focus_keeps_it_when_something_changes(self):
        service = self.serve(scene("busy"))
        browser = self.open(service)
        rows = "document.querySelectorAll('#leases tbody tr').length"
        browser.wait(f"{rows} === 2")
        for place in ["leases", "processes"]:
            browser.run(f"window.focused = document.querySelector('#{place} [role=region]')")
            browser.run("focused.focus()")
            for language, words in [("fr", "Commande|Qui"), ("en", "Command|Who")]:
                browser.run(f"document.querySelector('[data-language={language}]').click()")
                text = browser.run(f"document.querySelector('#{place}').innerText")
                self.assertRegex(text, words)
                self.assertTrue(browser.run("document.activeElement === focused"), place)
        service.waiter.terminate()
        browser.wait(f"{rows} === 1")
        self.assertNotIn("sleep 1001", browser.run("document.body.innerText"))

    def test_what_is_read_aloud_does_not_change_with_the_figures(self):
        browser = self.open(self.serve(scene("busy")))
        browser.wait("document.getElementById('state').dataset.state === 'live'")
        browser.run(
            "window.changes = 0; new MutationObserver((it) => { changes += it.length; })"
            ".observe(document.getElementById('news'), { childList: true, characterData: true, subtree: true })"
        )
        path = "document.querySelector('path').getAttribute('d')"
        before = browser.run(path)
        browser.wait(f"{path} !== {json.dumps(before)}")
        self.assertEqual(browser.run("changes"), 0)
        live = "[role=status], [role=alert], [role=log], [aria-live]"
        self.assertEqual(browser.run(f"document.querySelectorAll('{live}').length"), 1)

    def test_a_machine_that_is_silent_is_a_gap_in_every_line(self):
        service = self.serve(scene("busy"), is_under_simulator=False)
        browser = self.open(service)
        state = "document.getElementById('state').dataset.state"
        path = "document.querySelector('[data-series=heat] path').getAttribute('d')"
        browser.wait(f"{state} === 'live' && {path}.includes('L')")
        service.change(scene("busy") + FAULT)
        browser.wait(f"{state} === 'gap'")
        self.assertIn("unknown", browser.run("document.querySelector('.now').innerText"))
        self.assertIn("999", browser.run("document.getElementById('gap').innerText"))
        self.check_axe(browser, "a gap")
        service.change(scene("busy"))
        browser.wait(f"{state} === 'live' && {path}.split('M').length >= 3")
        self.assertTrue(browser.run("document.getElementById('gap').hidden"))
        service.process.send_signal(signal.SIGTERM)
        browser.wait(f"{state} === 'away'")
        self.assertIn("unknown", browser.run("document.querySelector('.now').innerText"))

    def test_alerts_are_told_in_words_and_the_past_can_be_seen(self):
        sick = "ecc = { enabled = true, corrected = 0, uncorrected = 3 }"
        name = 'name = "NVIDIA GeForce RTX 3090"'
        service = self.serve(scene("busy").replace(name, f"{name}\n{sick}"))
        browser = self.open(service)
        browser.wait("document.querySelectorAll('#alerts li').length > 0")
        for language, words in [("fr", "Erreurs de mémoire"), ("en", "Memory errors")]:
            browser.run(f"document.querySelector('[data-language={language}]').click()")
            self.assertIn(words, browser.run("document.getElementById('alerts').innerText"))
        self.check_axe(browser, "alerts")
        # Programs that are really there are kept too.
        kept = lambda: json.loads(  # noqa: E731
            service.get("api/v1/history/processes?from=0&to=9000000000000")
        )
        wait_for(lambda: "train.py" in json.dumps(kept()["processes"]))
        path = "document.querySelector('[data-series=heat] path').getAttribute('d')"
        for range in ["hour", "day", "week", "month"]:
            browser.run(f"document.querySelector('[data-range={range}]').click()")
            browser.wait(f"document.getElementById('past').hidden && {path}.includes('M')")
            # Nobody watched before the service was started: all there is stands at the right.
            first = float(browser.run(path)[1:].split(" ")[0])
            self.assertGreater(first, 250, range)
            self.check_axe(browser, range)
            self.picture(browser, f"past-{range}", captureBeyondViewport=True)
        # A point that is missing, and one of which nothing is known.
        browser.run(
            "window.fetch = async (asked) => { const to = Number(new URL(asked, location).searchParams.get('to'));"
            "const points = [90, 80, 60, 50, 40].map((ago) => ({ at: to - ago * 10000, span: 100000, min: 50,"
            "average: ago === 50 ? null : 60, max: 70 })); return new Response(JSON.stringify({ points })); }; 0"
        )
        browser.run("document.querySelector('[data-range=hour]').click()")
        browser.wait(f"document.getElementById('past').hidden && {path}.includes('L')")
        self.assertEqual(browser.run(path).count("M"), 3, browser.run(path))
        browser.run("document.querySelector('[data-range=live]').click()")
        browser.wait(
            "document.querySelector('[data-range=live]').getAttribute('aria-pressed') === 'true'"
        )
        self.assertEqual(browser.complaints(), [])

    def test_prometheus_reads_the_metrics(self):
        service = self.serve(scene("busy"))
        service_is_ready = lambda: "gpupin_up 1" in service.get("metrics")  # noqa: E731
        wait_for(service_is_ready)
        text = service.get("metrics")
        families = {it.name: it for it in text_string_to_metric_families(text)}
        self.assertGreater(len(families), 20)
        memory = families["gpupin_process_memory_used_bytes"].samples
        trained = [it for it in memory if "train.py" in it.labels["command"]]
        self.assertEqual([it.value for it in trained], [18 * 2**30])
        self.assertEqual({it.labels["kind"] for it in memory}, {"simulated"})
        if promtool := shutil.which("promtool"):
            checked = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True
            )
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
