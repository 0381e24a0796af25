"""Proving from inside which GPU a program is on."""

from __future__ import annotations

import pytest
from conftest import BINARY, RTX_3090, RTX_5060_TI, Run, check, check_refused

REQUIRE = "import gpupin\nprint(gpupin.require().uuid)\n"


def test_a_pinned_program_is_on_its_gpu(run: Run) -> None:
    done = run("import gpupin.auto\n" + REQUIRE)
    check(done, f"{RTX_3090}\n", "a simulated CUDA driver answered: this proves nothing about hardware")


def test_the_driver_says_what_is_visible(run: Run) -> None:
    script = """
        import gpupin
        for gpu in gpupin.visible():
            print(gpu.ordinal, gpu.name, gpu.compute_capability, gpu.pci)
        print(gpupin.current().name)
    """
    shown = "0 RTX 3090 (8, 6) 0000:02:00.0\n1 RTX 5060 Ti (12, 0) 0000:01:00.0\nRTX 3090\n"
    check(run(script), shown)
    check(run(script.replace("()", "(fork_safe=True)")), shown)


def test_another_gpu_is_refused(run: Run) -> None:
    done = run(REQUIRE, CUDA_VISIBLE_DEVICES=RTX_5060_TI)
    check_refused(done, "WrongGpu", f"this program is on RTX 5060 Ti ({RTX_5060_TI}", f"`CUDA_VISIBLE_DEVICES` is `{RTX_5060_TI}`")
    done = run(REQUIRE, CUDA_VISIBLE_DEVICES="-1")
    check_refused(done, "WrongGpu", "this program is on no GPU", "`CUDA_VISIBLE_DEVICES` is `-1`")


def test_the_error_says_what_was_expected_and_what_is(run: Run) -> None:
    script = """
        import gpupin
        try:
            gpupin.require()
        except gpupin.WrongGpu as error:
            print([it.name for it in error.expected], error.actual.name)
            print("gpupin run" in error.fix, "cuda:0" in error.why)
    """
    check(run(script, CUDA_VISIBLE_DEVICES=RTX_5060_TI), "['RTX 3090'] RTX 5060 Ti\nTrue True\n")


def test_a_child_can_be_asked_instead_so_that_this_process_stays_clean(run: Run) -> None:
    script = """
        import gpupin.auto
        from gpupin import driver
        print(gpupin.require(fork_safe=True).name, driver.is_started())
        print(gpupin.require().name, driver.is_started())
    """
    check(run(script), "RTX 3090 False\nRTX 3090 True\n")


def test_a_framework_that_is_somewhere_else_is_found_out(run: Run) -> None:
    script = """
        import sys, types
        import gpupin.auto
        properties = types.SimpleNamespace(uuid="5b1c0f6e-2d3a-4c55-9a77-0f6f0d1e2a01", name="NVIDIA GeForce RTX 5060 Ti")
        cuda = types.SimpleNamespace(
            is_available=lambda: True, is_initialized=lambda: True, get_device_properties=lambda _: properties
        )
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
        gpupin.require()
    """
    check_refused(run(script), "WrongGpu", "and torch's is another")


def test_torchs_nvml_helpers_that_mean_another_gpu_are_pointed_at(run: Run) -> None:
    script = """
        import sys, types
        import gpupin.auto
        properties = types.SimpleNamespace(uuid="8932f937-d72c-4106-c12f-20bd9faed9f6", name="NVIDIA GeForce RTX 3090")
        cuda = types.SimpleNamespace(
            is_available=lambda: True, is_initialized=lambda: True, get_device_properties=lambda _: properties,
            _get_nvml_device_index=lambda _: 0,
        )
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
        print(gpupin.require().name)
    """
    check(run(script), "RTX 3090\n", "speak of RTX 5060 Ti, not of RTX 3090")


def test_real_clients_see_the_gpu_that_was_required(run: Run) -> None:
    pytest.importorskip("cuda.bindings")
    script = """
        import gpupin.auto
        required = gpupin.require()
        from cuda.bindings import driver
        code, count = driver.cuDeviceGetCount()
        code, device = driver.cuDeviceGet(0)
        code, uuid = driver.cuDeviceGetUuid(device)
        print(count, bytes(uuid.bytes).hex() == required.uuid[4:].replace("-", ""))
    """
    check(run(script), "1 True\n")


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ("name='RTX 3080'", "NVML says that it is RTX 3090 of compute capability 8.6, and CUDA RTX 3080 of compute capability 8.6"),
        (
            "compute_capability=(8, 9)",
            "and CUDA RTX 3090 of compute capability 8.9; the policy wants RTX 3090 with at least 20 GiB",
        ),
        ("vram=16 << 30", "CUDA 16.0 GiB; the policy wants RTX 3090 with at least 20 GiB"),
    ],
)
def test_a_gpu_that_is_not_what_the_policy_wants_in_cudas_words_is_refused(run: Run, facts: str, error: str) -> None:
    # Nothing but a driver at odds with itself says this, so that its answer is changed here.
    script = f"""
        import dataclasses
        import gpupin.auto
        from gpupin import driver
        real = driver.visible_gpus
        driver.visible_gpus = lambda: ([dataclasses.replace(it, {facts}) for it in real()[0]], True)
        gpupin.require()
    """
    policy = "gpu = { name = 'RTX 3090', min-vram = '20 GiB' }\n"
    check_refused(run(script, policy=policy), "WrongGpu", error, "gpupin doctor")


def test_what_cuda_keeps_of_the_memory_is_no_other_gpu_and_much_less_is_told(run: Run) -> None:
    script = """
        import dataclasses
        import gpupin.auto
        from gpupin import driver
        real = driver.visible_gpus()
        for gib in (23.6, 12):
            driver.visible_gpus = lambda: ([dataclasses.replace(it, vram=int(gib * 2**30)) for it in real[0]], True)
            print(gpupin.require().name, flush=True)
    """
    done = run(script, policy="gpu = { name = 'RTX 3090' }\n")
    check(done, "RTX 3090\nRTX 3090\n", "and CUDA 12.0 GiB: run `gpupin doctor`")
    assert "23.6" not in done.stderr
    strict = "gpu = { name = 'RTX 3090', min-vram = '24 GiB' }\n"
    check(run(script.replace(", 12)", ",)"), policy=strict), "RTX 3090\n")


def test_without_a_driver_nothing_is_proved(run: Run) -> None:
    check_refused(
        run("import gpupin\ngpupin.visible()\n", before=("env", "GPUPIN_CUDA_LIBRARY=/no/such.so")),
        "DriverError",
        "there is no CUDA driver",
        "`gpupin doctor`",
    )


def test_run_and_require_agree(run: Run) -> None:
    check(run(REQUIRE, before=(BINARY, "-q", "run", "--no-observe", "--")), f"{RTX_3090}\n")
