use std::ffi::{c_int, c_uint, c_ulonglong};

use gpupin_device::{
    Throttle,
    scene::{Clocks, SceneGpu, milliwatts},
};
use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlClockId_t, nvmlClockType_t, nvmlEccCounterType_t, nvmlEnableState_t,
    nvmlFieldValue_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlMemoryErrorType_t, nvmlPcieUtilCounter_t,
    nvmlPstates_t, nvmlTemperature_t, nvmlTemperatureSensors_t, nvmlTemperatureThresholds_t,
    nvmlUtilization_t, nvmlValue_t,
};

use super::{
    ARGUMENT_VERSION_MISMATCH, Code, FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NOT_SUPPORTED, UNKNOWN,
    device, put,
};
use crate::session::{self, Asked};

/// `sizeof | version << 24`.
const MEMORY_V2: c_uint = 0x0200_0028;
const TEMPERATURE_V1: c_uint = 0x0100_000c;

/// Bytes: all, what the driver keeps, in use, free.
fn memory(it: &Asked) -> Result<(u64, u64, u64, u64), Code> {
    let running = session::live().ok_or(UNKNOWN)?.processes().map_err(|_| UNKNOWN)?;
    let gpu = it.gpu();
    let (total, kept, used) =
        (gpu.total(&it.uuid), gpu.kept(&it.uuid), gpu.used(&it.uuid, &running));
    Ok((total, kept, used, total - kept - used))
}

device! {
    // The first version counts what the driver keeps as used.
    fn nvmlDeviceGetMemoryInfo(memory: *mut nvmlMemory_t) |it| {
        let (total, kept, used, free) = self::memory(&it)?;
        put(memory, nvmlMemory_t { total, free, used: used + kept })
    }

    fn nvmlDeviceGetMemoryInfo_v2(memory: *mut nvmlMemory_v2_t) |it| {
        let version = memory.as_ref().ok_or(INVALID_ARGUMENT)?.version;
        if version != MEMORY_V2 {
            // Not 25: https://github.com/NVIDIA/nvidia-settings/issues/78
            return Err(FUNCTION_NOT_FOUND);
        }
        let (total, reserved, used, free) = self::memory(&it)?;
        put(memory, nvmlMemory_v2_t { version, total, reserved, free, used })
    }

    fn nvmlDeviceGetBAR1MemoryInfo(memory: *mut nvmlBAR1Memory_t) |it| {
        it.whole()?;
        let (total, used) = (256 << 20, 1 << 20);
        put(memory, nvmlBAR1Memory_t { bar1Total: total, bar1Free: total - used, bar1Used: used })
    }

    fn nvmlDeviceGetUtilizationRates(utilization: *mut nvmlUtilization_t) |it| {
        let gpu = it.whole()?;
        let running = session::live().ok_or(UNKNOWN)?.processes().map_err(|_| UNKNOWN)?;
        let memory = gpu.memory_utilization;
        put(utilization, nvmlUtilization_t { gpu: gpu.load(&running), memory })
    }

    fn nvmlDeviceGetEncoderUtilization(utilization: *mut c_uint, period: *mut c_uint) |it| {
        put(utilization, it.whole()?.encoder_utilization)?;
        put(period, 167_000)
    }

    fn nvmlDeviceGetDecoderUtilization(utilization: *mut c_uint, period: *mut c_uint) |it| {
        put(utilization, it.whole()?.decoder_utilization)?;
        put(period, 167_000)
    }

    fn nvmlDeviceGetTemperature(sensor: nvmlTemperatureSensors_t, temperature: *mut c_uint) |it| {
        if sensor != 0 {
            return Err(INVALID_ARGUMENT);
        }
        put(temperature, it.whole()?.temperature)
    }

    fn nvmlDeviceGetTemperatureV(temperature: *mut nvmlTemperature_t) |it| {
        let found = temperature.as_mut().ok_or(INVALID_ARGUMENT)?;
        if found.version != TEMPERATURE_V1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        if found.sensorType != 0 {
            return Err(INVALID_ARGUMENT);
        }
        found.temperature = c_int::try_from(it.whole()?.temperature).unwrap_or(c_int::MAX);
        Ok(())
    }

    fn nvmlDeviceGetTemperatureThreshold(which: nvmlTemperatureThresholds_t, limit: *mut c_uint) |it| {
        let (slow, stop) = it.whole()?.temperature_limits;
        match which {
            0 => put(limit, stop),
            1 => put(limit, slow),
            _ => Err(NOT_SUPPORTED),
        }
    }

    fn nvmlDeviceGetPowerUsage(power: *mut c_uint) |it| {
        put(power, milliwatts(it.whole()?.power))
    }

    fn nvmlDeviceGetPowerManagementMode(mode: *mut nvmlEnableState_t) |it| {
        it.whole()?;
        put(mode, 1)
    }

    fn nvmlDeviceGetPowerManagementLimit(limit: *mut c_uint) |it| {
        put(limit, milliwatts(it.whole()?.power_limit))
    }

    fn nvmlDeviceGetPowerManagementDefaultLimit(limit: *mut c_uint) |it| {
        put(limit, milliwatts(it.whole()?.power_limits.1))
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(least: *mut c_uint, most: *mut c_uint) |it| {
        let limits = it.whole()?.power_limits;
        put(least, milliwatts(limits.0))?;
        put(most, milliwatts(limits.1))
    }

    fn nvmlDeviceGetEnforcedPowerLimit(limit: *mut c_uint) |it| {
        put(limit, milliwatts(it.whole()?.power_limit))
    }

    fn nvmlDeviceGetClockInfo(which: nvmlClockType_t, clock: *mut c_uint) |it| {
        put(clock, clock_now(it.whole()?, which)?)
    }

    fn nvmlDeviceGetMaxClockInfo(which: nvmlClockType_t, clock: *mut c_uint) |it| {
        put(clock, clock_of(&it.whole()?.clocks, which)?.1)
    }

    fn nvmlDeviceGetClock(which: nvmlClockType_t, id: nvmlClockId_t, clock: *mut c_uint) |it| {
        let gpu = it.whole()?;
        match id {
            0 => put(clock, clock_now(gpu, which)?),
            3 => put(clock, clock_of(&gpu.clocks, which)?.1),
            _ => Err(NOT_SUPPORTED),
        }
    }

    fn nvmlDeviceGetPerformanceState(state: *mut nvmlPstates_t) |it| {
        put(state, it.whole()?.performance_state)
    }

    fn nvmlDeviceGetPowerState(state: *mut nvmlPstates_t) |it| {
        put(state, it.whole()?.performance_state)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(reasons: *mut c_ulonglong) |it| {
        put(reasons, bits(&it.whole()?.throttle))
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(reasons: *mut c_ulonglong) |it| {
        put(reasons, bits(&it.whole()?.throttle))
    }

    fn nvmlDeviceGetSupportedClocksThrottleReasons(reasons: *mut c_ulonglong) |it| {
        it.whole()?;
        put(reasons, bits(&Throttle::ALL))
    }

    fn nvmlDeviceGetSupportedClocksEventReasons(reasons: *mut c_ulonglong) |it| {
        it.whole()?;
        put(reasons, bits(&Throttle::ALL))
    }

    fn nvmlDeviceGetFanSpeed(speed: *mut c_uint) |it| {
        put(speed, *it.whole()?.fans.first().ok_or(NOT_SUPPORTED)?)
    }

    fn nvmlDeviceGetFanSpeed_v2(fan: c_uint, speed: *mut c_uint) |it| {
        let fans = &it.whole()?.fans;
        if fans.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        put(speed, *fans.get(fan as usize).ok_or(INVALID_ARGUMENT)?)
    }

    fn nvmlDeviceGetNumFans(count: *mut c_uint) |it| {
        put(count, c_uint::try_from(it.whole()?.fans.len()).unwrap_or(c_uint::MAX))
    }

    // Kilobytes per second.
    fn nvmlDeviceGetPcieThroughput(counter: nvmlPcieUtilCounter_t, value: *mut c_uint) |it| {
        let pcie = it.whole()?.pcie;
        match counter {
            0 => put(value, pcie.sent),
            1 => put(value, pcie.received),
            _ => Err(INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetCurrPcieLinkGeneration(generation: *mut c_uint) |it| {
        put(generation, it.whole()?.pcie.generation)
    }

    fn nvmlDeviceGetCurrPcieLinkWidth(width: *mut c_uint) |it| {
        put(width, it.whole()?.pcie.width)
    }

    fn nvmlDeviceGetMaxPcieLinkGeneration(generation: *mut c_uint) |it| {
        put(generation, it.whole()?.pcie.max_generation)
    }

    fn nvmlDeviceGetGpuMaxPcieLinkGeneration(generation: *mut c_uint) |it| {
        put(generation, it.whole()?.pcie.max_generation)
    }

    fn nvmlDeviceGetMaxPcieLinkWidth(width: *mut c_uint) |it| {
        put(width, it.whole()?.pcie.max_width)
    }

    // Megabits per second.
    fn nvmlDeviceGetPcieSpeed(speed: *mut c_uint) |it| {
        let generation = it.whole()?.pcie.generation;
        let speeds = [2500, 5000, 8000, 16000, 32000, 64000];
        let place = (generation as usize).checked_sub(1).ok_or(NOT_SUPPORTED)?;
        put(speed, *speeds.get(place).ok_or(NOT_SUPPORTED)?)
    }

    // An enumeration of generations, whatever its name says.
    fn nvmlDeviceGetPcieLinkMaxSpeed(speed: *mut c_uint) |it| {
        put(speed, it.whole()?.pcie.max_generation)
    }

    fn nvmlDeviceGetPcieReplayCounter(count: *mut c_uint) |it| {
        it.whole()?;
        put(count, 0)
    }

    fn nvmlDeviceGetTotalEccErrors(
        kind: nvmlMemoryErrorType_t,
        counter: nvmlEccCounterType_t,
        count: *mut c_ulonglong
    ) |it| {
        let ecc = it.whole()?.ecc.filter(|it| it.enabled).ok_or(NOT_SUPPORTED)?;
        match (kind, counter) {
            (0, 0 | 1) => put(count, ecc.corrected),
            (1, 0 | 1) => put(count, ecc.uncorrected),
            _ => Err(INVALID_ARGUMENT),
        }
    }

    // Each value has a return value of its own, and the call succeeds.
    fn nvmlDeviceGetFieldValues(count: c_int, values: *mut nvmlFieldValue_t) |it| {
        if values.is_null() || count < 1 {
            return Err(INVALID_ARGUMENT);
        }
        let gpu = it.gpu();
        for place in 0..usize::try_from(count).unwrap_or(0) {
            let field = &mut *values.add(place);
            // Temperature of the memory, energy, power averaged and now: 82, 83, 185, 186. Energy is not simulated.
            let power = (!it.is_instance()).then(|| milliwatts(gpu.power));
            let value = match field.fieldId {
                185 | 186 => power,
                _ => None,
            };
            field.timestamp = i64::try_from(gpupin_device::scene::now()).unwrap_or(i64::MAX);
            field.latencyUsec = 0;
            field.nvmlReturn = if value.is_some() { 0 } else { NOT_SUPPORTED };
            // An unsigned int.
            field.valueType = 1;
            field.value = nvmlValue_t { ullVal: value.unwrap_or(0).into() };
        }
        Ok(())
    }
}

fn bits(reasons: &[Throttle]) -> c_ulonglong {
    reasons.iter().fold(0, |all, it| all | it.bit())
}

/// Megahertz now, within what was locked.
fn clock_now(gpu: &SceneGpu, which: nvmlClockType_t) -> Result<c_uint, Code> {
    let clock = clock_of(&gpu.clocks, which)?.0;
    match gpu.locked_clocks {
        Some((least, most)) if which != 2 => Ok(clock.max(least).min(most)),
        _ => Ok(clock),
    }
}

/// Now, and at most.
fn clock_of(clocks: &Clocks, which: nvmlClockType_t) -> Result<(c_uint, c_uint), Code> {
    match which {
        0 => Ok((clocks.graphics, clocks.max_graphics)),
        1 => Ok((clocks.sm, clocks.max_sm)),
        2 => Ok((clocks.memory, clocks.max_memory)),
        3 => Ok((clocks.video, clocks.max_video)),
        _ => Err(INVALID_ARGUMENT),
    }
}
