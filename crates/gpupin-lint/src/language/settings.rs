//! Names and texts that say GPU, whatever language they stand in.
//!
//! A project's own setting counts as a GPU choice when its *name* says so: one of its words names GPUs (`gpu`,
//! `cuda`) and its end says "which" (`id`, `index`, `device`, …). `gpu_device_index`, `ttsGpuId`, `main_gpu` and
//! `--cuda-device` do; `device_index` (perhaps a microphone), `num_gpus`, `gpu_memory` and `use_gpu` do not.

use std::ops::Range;

use super::{UnitBuilder, command};
use crate::{
    catalogue::Numbering,
    span::Span,
    unit::{Choice, Does, Purpose, Reach, SetHow, SetVariable, Step},
    value::{Spanned, Value},
};

/// What an entry of a settings file does: sets a variable for whoever loads it, or says which GPU.
pub(crate) fn entry(
    key: &str,
    key_span: Span,
    value: &Spanned,
    out: &mut UnitBuilder,
) -> Option<Step> {
    let name = key.trim();
    let span = if key_span.end <= value.span.start { key_span.cover(value.span) } else { key_span };
    if names_variable(name) {
        let text = match &value.value {
            Value::Str(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            _ => return None,
        };
        let value = Spanned::new(Value::Str(text), value.span);
        let (how, reach) = (SetHow::Assign, Reach::Loader);
        let set = SetVariable { name: name.to_owned(), name_span: key_span, value, how, reach };
        return Some(out.event(span, Does::SetVariable(set)));
    }
    let choice = choice(name, value, out)?;
    Some(out.event(span, Does::Choose(choice)))
}

/// A line of pytest-env: `X=1`, or `D:X=1` to keep a value that is there. Flags come in any order: `R:D:X=1`.
pub(super) fn test_variable(line: &str, word: &Spanned, out: &mut UnitBuilder) -> Option<Step> {
    let (left, value) = line.split_once('=')?;
    let (flags, name) = left.rsplit_once(':').unwrap_or(("", left));
    let name = name.trim();
    if !command::is_variable_name(name) {
        return None;
    }
    let keeps = flags.split(':').any(|it| it.trim() == "D");
    let how = if keeps { SetHow::IfUnset } else { SetHow::Assign };
    let name_span = command::part(word, name, out);
    let value_span = command::part(word, value.trim(), out);
    let value = Spanned::new(Value::Str(value.trim().to_owned()), value_span);
    let name = name.to_owned();
    let set = SetVariable { name, name_span, value, how, reach: Reach::Loader };
    Some(out.event(word.span, Does::SetVariable(set)))
}

fn choice(name: &str, value: &Spanned, out: &UnitBuilder) -> Option<Choice> {
    let made = |ordinals, numbering| {
        Some(Choice::new(name.to_owned(), ordinals, numbering, Purpose::Setting))
    };
    match &value.value {
        Value::Int(_) => made(vec![value.clone()], says_gpu(name)?),
        Value::Str(text) => {
            let choice = command::choice(name, text, value, false, out)?;
            Some(Choice { purpose: Purpose::Setting, ..choice })
        }
        Value::List(items) => {
            let numbering = says_gpu(name);
            let mut ordinals = Vec::new();
            for item in items {
                match &item.value {
                    Value::Int(_) if numbering.is_some() => ordinals.push(item.clone()),
                    Value::Str(text) => {
                        let choice = command::choice(name, text, item, false, out)?;
                        ordinals.extend(choice.ordinals);
                    }
                    _ => return None,
                }
            }
            let numbering = numbering.unwrap_or(Numbering::Ordinal);
            if ordinals.is_empty() { None } else { made(ordinals, numbering) }
        }
        _ => None,
    }
}

/// How the numbers under a key count GPUs. `None`: the key does not say which GPU.
///
/// The key is a name in any spelling: `gpu_id`, `gpu-id`, `gpuId`, `--gpu-id`, `tts.gpu_id`.
pub(crate) fn says_gpu(key: &str) -> Option<Numbering> {
    let words = words(key);
    let is = |word: &str| words.iter().any(|it| it == word);
    if !words.iter().any(|it| matches!(&**it, "gpu" | "gpus" | "cuda" | "nvml")) {
        return None;
    }
    if words.iter().any(|it| COUNTS_OR_SIZES.contains(&&**it)) {
        return None;
    }
    let last = words.last()?;
    let which = match &**last {
        "id" | "ids" | "idx" | "index" | "indexes" | "indices" | "ordinal" | "ordinals" => true,
        "device" | "devices" => true,
        // `main_gpu` is llama.cpp's, the others are common in launchers.
        "gpu" => ["main", "primary", "target", "default", "which"].iter().any(|it| is(it)),
        _ => false,
    };
    if !which {
        return None;
    }
    Some(if is("nvml") || is("smi") || is("physical") {
        Numbering::Nvml
    } else if is("visible") {
        Numbering::BaseOrder
    } else if OTHER_APIS.iter().any(|it| is(it)) {
        Numbering::Other
    } else {
        Numbering::Ordinal
    })
}

/// Words of names that say how many or how much, not which.
const COUNTS_OR_SIZES: &[&str] = &[
    "count", "num", "number", "max", "min", "memory", "mem", "size", "layers", "batch", "per",
    "use", "enable", "has", "names", "name", "uuid", "uuids", "type", "kind", "process", "bus",
];

/// Words of names that count by another API's numbers. `LightGBM` counts `gpu_platform_id` as `OpenCL` does.
const OTHER_APIS: &[&str] =
    &["opencl", "platform", "vulkan", "vk", "directml", "dml", "dxgi", "adapter", "metal", "sycl"];

/// The words of a name, in lower case.
fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in key.chars() {
        let starts_word = letter.is_uppercase() && after_lower;
        if !letter.is_alphanumeric() || starts_word {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        after_lower = letter.is_lowercase() || letter.is_ascii_digit();
    }
    words.retain(|it| !it.is_empty());
    // `gpuid` and `cudadevice` are written together often enough.
    if let [word] = &*words {
        for prefix in ["gpu", "cuda"] {
            if let Some(rest) = word.strip_prefix(prefix).filter(|it| !it.is_empty()) {
                return vec![prefix.to_owned(), rest.to_owned()];
            }
        }
    }
    words
}

/// A text such as `cuda:1`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceText {
    pub(crate) ordinal: i64,
    /// Where the digits stand in the text.
    pub(crate) digits: Range<usize>,
}

/// Reads `cuda:1`, `gpu:1` (Paddle) and `/device:GPU:1` (TensorFlow). `None` for `cuda` without a number and for all else.
pub(crate) fn device_text(text: &str) -> Option<DeviceText> {
    let trimmed = text.trim();
    let (kind, number) = trimmed.rsplit_once(':')?;
    let kind = kind.to_ascii_lowercase();
    // `/job:worker/replica:0/task:0/device:GPU:1` names a GPU of one task.
    let names_gpu = matches!(&*kind, "cuda" | "gpu" | "/gpu") || kind.ends_with("device:gpu");
    if !names_gpu || number.is_empty() || !number.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let end = text.trim_end().len();
    Some(DeviceText { ordinal: number.parse().ok()?, digits: end - number.len()..end })
}

/// Whether a settings key is the name of an environment variable that concerns GPUs: `CUDA_VISIBLE_DEVICES` and what looks like it.
///
/// Misspelt names count too: telling those is a rule's business.
pub(crate) fn names_variable(key: &str) -> bool {
    key.contains('_')
        && key.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
        && key.split('_').any(|word| {
            matches!(
                word,
                "CUDA" | "NVIDIA" | "PYTORCH" | "GPU" | "GPUS" | "HIP" | "ROCR" | "VISIBLE"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::{DeviceText, device_text, names_variable, says_gpu};
    use crate::catalogue::Numbering;

    #[test]
    fn names_that_say_which_gpu_count() {
        for key in [
            "gpu_id",
            "GPU_ID",
            "gpu-ids",
            "gpuId",
            "gpuid",
            "ttsGpuIndex",
            "whisper.gpu_device_index",
            "main_gpu",
            "--main-gpu",
            "cuda_device",
            "--cuda-device",
            "gpu_device",
            "cuda_devices",
            "gpu_idx",
            "llm_main_gpu",
            "cuda_ordinal",
        ] {
            assert_eq!(says_gpu(key), Some(Numbering::Ordinal), "{key}");
        }
    }

    #[test]
    fn names_of_counts_sizes_and_other_devices_do_not() {
        for key in [
            "device_index",
            "input_device_index",
            "device",
            "gpu",
            "gpus",
            "num_gpus",
            "n_gpu",
            "n_gpu_layers",
            "gpu_memory",
            "use_gpu",
            "gpu_count",
            "gpu_name",
            "cuda",
            "max_gpu_id_count",
            "gpu_memory_device",
            "gpu_utilization",
            "model_id",
            "",
            "_",
            "gpu_process_id",
        ] {
            assert_eq!(says_gpu(key), None, "{key}");
        }
    }

    #[test]
    fn names_tell_whose_numbers_they_are() {
        assert_eq!(says_gpu("nvml_index"), Some(Numbering::Nvml));
        assert_eq!(says_gpu("physical_gpu_id"), Some(Numbering::Nvml));
        assert_eq!(says_gpu("cuda_visible_devices"), Some(Numbering::BaseOrder));
        assert_eq!(says_gpu("gpu_platform_id"), Some(Numbering::Other));
        assert_eq!(says_gpu("vulkan_gpu_index"), Some(Numbering::Other));
    }

    #[test]
    fn device_texts_give_the_ordinal_and_the_place_of_its_digits() {
        let found = |ordinal, digits| Some(DeviceText { ordinal, digits });
        assert_eq!(device_text("cuda:1"), found(1, 5..6));
        assert_eq!(device_text(" cuda:12 "), found(12, 6..8));
        assert_eq!(device_text("gpu:0"), found(0, 4..5));
        assert_eq!(device_text("/GPU:1"), found(1, 5..6));
        assert_eq!(device_text("/device:GPU:1"), found(1, 12..13));
        for text in
            ["cuda", "cuda:", "cuda:x", "cpu:0", "mycuda:1", "cuda:1,2", "cuda:-1", "xpu:1", ":1"]
        {
            assert_eq!(device_text(text), None, "{text}");
        }
    }

    #[test]
    fn keys_that_name_variables_are_told_from_settings() {
        for key in [
            "CUDA_VISIBLE_DEVICES",
            "CUDA_VISIBLE_DEVICE",
            "PYTORCH_CUDA_ALLOC_CONF",
            "NVIDIA_VISIBLE_DEVICES",
        ] {
            assert!(names_variable(key), "{key}");
        }
        for key in ["cuda_visible_devices", "CUDA", "MODEL_PATH", "gpu_id", ""] {
            assert!(!names_variable(key), "{key}");
        }
    }
}
