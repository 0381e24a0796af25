"""Pinning from inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import BINARY, POLICY, RTX_3090, RTX_5060_TI, Run, check, check_refused

SHOW = """
import os
names = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "A")
print([os.environ.get(it) for it in names])
"""
PINNED = f"['PCI_BUS_ID', '{RTX_3090}', 'b']\n"


def test_one_import_pins_the_program(run: Run) -> None:
    check(run("import gpupin.auto\n" + SHOW), PINNED, "the machine is simulated")


def test_a_program_that_is_a_role_gets_the_roles_gpu(run: Run) -> None:
    check(run("import gpupin.auto\n" + SHOW, name="tts.py"), PINNED.replace(RTX_3090, RTX_5060_TI))
    check(run("import gpupin.auto\n" + SHOW, GPUPIN_ROLE="tts"), PINNED.replace(RTX_3090, RTX_5060_TI))
    check(run("import gpupin\ngpupin.pin('tts')\n" + SHOW), PINNED.replace(RTX_3090, RTX_5060_TI))


def test_a_second_pin_is_the_same_one_or_refused(run: Run) -> None:
    check(run("import gpupin.auto\nassert gpupin.pin() is gpupin.pin()\n" + SHOW), PINNED)
    check_refused(run("import gpupin.auto\ngpupin.pin('tts')\n"), "GpupinError", "a process has one pin")


def test_under_gpupin_run_everything_is_set(run: Run) -> None:
    script = "import gpupin\npin = gpupin.pin()\nprint(pin.changed, [it.uuid for it in pin.gpus])\n"
    check(run(script, before=(BINARY, "-q", "run", "--no-observe", "--")), f"{{}} ['{RTX_3090}']\n")


RUN = (BINARY, "-q", "run", "--no-observe")


def test_what_gpupin_run_chose_is_what_is_meant_inside(run: Run) -> None:
    script = """
        import gpupin
        pin = gpupin.pin()
        with gpupin.lease(timeout=0) as lease:
            print(pin.changed, [it.name for it in pin.gpus], gpupin.require().name, lease.gpus == (pin.gpus[0].uuid,))
        print(gpupin.plan.leak_threshold())
    """
    inside = "{{}} ['{0}'] {0} True\n{1}\n".format
    check(run(script, before=(*RUN, "--")), inside("RTX 3090", 100_000_000))
    check(run(script, before=(*RUN, "--role", "tts", "--profile", "ci", "--")), inside("RTX 5060 Ti", 1_000_000))
    check(run(script, before=(*RUN, "--"), GPUPIN_ROLE="tts"), inside("RTX 5060 Ti", 100_000_000))


def test_another_policy_of_gpupin_run_counts_inside_too(run: Run, project: Path) -> None:
    (project / "other.toml").write_text("gpu.name = 'RTX 5060 Ti'\n")
    script = "import gpupin.auto, os\nos.chdir('/')\nprint(gpupin.require().name)\n"
    check(run(script, before=(*RUN, "--policy", "other.toml", "--")), "RTX 5060 Ti\n")


def test_gpupin_run_for_another_role_is_refused_and_not_taken_for_this_one(run: Run) -> None:
    done = run("import gpupin.auto\n", name="tts.py", before=(*RUN, "--"))
    check_refused(done, "OutsidePin", f"`gpupin run` has set `CUDA_VISIBLE_DEVICES` to `{RTX_3090}`", "`gpupin run --role tts`")
    check(
        run("import gpupin.auto\n" + SHOW, name="tts.py", before=(*RUN, "--role", "tts", "--")),
        PINNED.replace(RTX_3090, RTX_5060_TI),
    )


def test_what_was_pinned_stays_meant_here_and_in_what_is_started(run: Run) -> None:
    script = """
        import gpupin, subprocess, sys
        @gpupin.lease(timeout=0)
        def held():
            return "in"
        gpupin.pin("tts", profile="ci")
        child = "import gpupin.auto; print(gpupin.require().name, gpupin.plan.leak_threshold())"
        print(held(), gpupin.require().name, gpupin.guarding._uuid(), gpupin.plan.leak_threshold(), flush=True)
        subprocess.run([sys.executable, "-c", child], check=True)
    """
    check(run(script), f"in RTX 5060 Ti {RTX_5060_TI} 1000000\nRTX 5060 Ti 1000000\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("pinned", ["in the parent", "in each worker", "in both"])
def test_workers_are_on_the_gpu_of_who_started_them(run: Run, method: str, pinned: str) -> None:
    script = f"""
        import concurrent.futures, multiprocessing
        import gpupin
        def work(_):
            if "{pinned}" != "in the parent":
                gpupin.pin({'"tts"' if pinned == "in each worker" else ""})
            return gpupin.require().name
        if __name__ == "__main__":
            if "{pinned}" != "in each worker":
                gpupin.pin("tts")
            context = multiprocessing.get_context("{method}")
            with context.Pool(2) as pool:
                print(pool.map(work, range(2)))
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
                print(list(executor.map(work, range(2))))
    """
    names = "['RTX 5060 Ti', 'RTX 5060 Ti']\n"
    check(run(script), names + names)


def test_of_twins_the_one_that_is_held_is_pinned(run: Run) -> None:
    script = """
        import gpupin, os, subprocess, sys
        if "inner" not in sys.argv:
            # Somebody has the first.
            with gpupin.lease() as first:
                environment = {name: value for name, value in os.environ.items() if name != "GPUPIN_LEASE"}
                for before in ([], [os.environ["GPUPIN_BINARY"], "-q", "run", "--no-observe", "--"]):
                    subprocess.run([*before, sys.executable, __file__, "inner", *first.gpus], env=environment, check=True)
        else:
            with gpupin.lease(timeout=0) as second:
                pin = gpupin.pin()
                print(second.gpus != tuple(sys.argv[2:]), second.gpus == (pin.gpus[0].uuid,), gpupin.require() is not None)
    """
    check(run(script, scene="twin-3090", policy="gpu.name = 'RTX 3090'\n"), "True True True\nTrue True True\n")


def test_what_is_pinned_is_what_is_held(run: Run) -> None:
    script = """
        import gpupin, os
        second = [it.uuid for it in gpupin.visible()][1]
        os.environ["CUDA_VISIBLE_DEVICES"] = second
        with gpupin.lease() as lease:
            print(lease.gpus == (second,))
    """
    check(run(script, scene="twin-3090", policy="gpu.name = 'RTX 3090'\n"), "True\n")


def test_a_pin_that_comes_too_late_is_refused(run: Run) -> None:
    script = """
        import ctypes, os
        ctypes.CDLL(os.environ["GPUPIN_CUDA_LIBRARY"]).cuInit(0)
        import gpupin.auto
    """
    check_refused(run(script), "PinTooLate", "something has started CUDA already", "make `import gpupin.auto` the first import")


def test_a_driver_that_is_only_loaded_is_not_started(run: Run) -> None:
    script = """
        import ctypes, os
        ctypes.CDLL(os.environ["GPUPIN_CUDA_LIBRARY"])
        import gpupin.auto
        from gpupin import driver
        print(driver.is_started())
    """
    check(run(script), "False\n")


def test_who_started_cuda_is_inferred_from_what_is_imported(run: Run) -> None:
    pytest.importorskip("numba.cuda")
    script = """
        from numba import cuda
        cuda.detect()
        import gpupin
        try:
            gpupin.pin()
        except gpupin.PinTooLate as error:
            print(error.suspect)
    """
    done = run(script, NUMBA_CUDA_DRIVER="")
    assert done.stdout.splitlines()[-1:] == ["numba.cuda"], done


def test_a_pin_from_outside_stays_if_it_is_the_same_or_the_policy_says_so(run: Run) -> None:
    script = "import gpupin.auto\n" + SHOW
    check(run(script, CUDA_VISIBLE_DEVICES=RTX_3090), f"[None, '{RTX_3090}', 'b']\n")
    check_refused(run(script, CUDA_VISIBLE_DEVICES="0"), "OutsidePin", "is set to `0` already", "on-outside-pin")
    kept = POLICY + '[run]\non-outside-pin = "keep"\n'
    check(run(script, policy=kept, CUDA_VISIBLE_DEVICES="0"), "[None, '0', 'b']\n", "stays as the policy says")


def test_what_is_missing_is_told(run: Run, project: Path) -> None:
    script = "import gpupin.auto\n" + SHOW
    done = run(script, policy=None)
    check_refused(done, "PolicyError", "there is no policy that declares a GPU", "`GPUPIN_POLICY`", f"looked for in `{project}`")
    check_refused(run(script, policy="gpu.nmae = 'x'\n"), "PolicyError", "did you mean `name`")
    check_refused(run(script, policy="gpu.name = 'RTX 4090'\n"), "NoMatchingGpu", "its name is `RTX 3090`, not `RTX 4090`")
    check_refused(run(script, scene="no-driver"), "NoMatchingGpu", "no NVIDIA driver", "`gpupin doctor`", "on-missing")
    check_refused(run(script, GPUPIN_BINARY="/no/such/file"), "BinaryNotFound", "which is no file")


def test_a_laptop_without_the_gpu_runs_on_the_cpu_if_the_policy_says_so(run: Run) -> None:
    policy = "gpu.name = 'RTX 4090'\nrun.on-missing = 'cpu'\n"
    for scene in ("mixed", "no-driver"):
        done = run("import gpupin.auto\n" + SHOW, policy=policy, scene=scene)
        check(done, "[None, '-1', None]\n", "the policy lets this program run without a GPU")


def test_off_is_off_and_says_so(run: Run) -> None:
    done = run("import gpupin.auto\n" + SHOW, GPUPIN="off")
    check(done, "[None, None, None]\n", "`GPUPIN=off`: this program is not pinned")
