use super::{
    Answer, Api,
    Shape::{Count, Device, DeviceMap, Kind, Uses},
    choose, query,
};
use crate::unit::Sureness::Sure;

/// Speech to text and text to speech: whisper and its kin, `CTranslate2`, Coqui, Piper, and others. Ordered by path.
pub(super) const APIS: &[Api] = &[
    // CTranslate2, and what is built on it, throws for `cuda:1`:
    // https://github.com/OpenNMT/CTranslate2/blob/master/src/devices.cc
    // Coqui's `gpu=True` is the current device; only `.to("cuda:1")` says which.
    choose("ctranslate2.Generator")
        .at(1, "device", Kind)
        .key("device_index", Device)
        .freezes_on_cuda(),
    query("ctranslate2.get_cuda_device_count").freezes(Sure).answers(Answer::Count),
    query("ctranslate2.get_supported_compute_types").key("device_index", Device),
    choose("ctranslate2.models.**.Wav2Vec2")
        .at(1, "device", Kind)
        .key("device_index", Device)
        .freezes_on_cuda(),
    choose("ctranslate2.models.**.Whisper")
        .at(1, "device", Kind)
        .key("device_index", Device)
        .freezes_on_cuda(),
    choose("ctranslate2.Translator")
        .at(1, "device", Kind)
        .key("device_index", Device)
        .freezes_on_cuda(),
    choose("easyocr.Reader").at(1, "gpu", Uses).freezes_on_cuda(),
    choose("faster_whisper.**.WhisperModel")
        .at(1, "device", Kind)
        .at(2, "device_index", Device)
        .freezes_on_cuda(),
    choose("funasr.AutoModel").key("device", Device).key("ngpu", Count).freezes_on_cuda(),
    choose("kokoro.**.KPipeline").key("device", Device).freezes_on_cuda(),
    choose("piper.**.PiperVoice.load")
        .key("gpu_device_id", Device)
        .key("use_cuda", Uses)
        .freezes_on_cuda(),
    choose("pyannote.audio.**.Inference").key("device", Device).freezes_on_cuda(),
    choose("speechbrain.**.from_hparams").key("run_opts", DeviceMap).freezes_on_cuda(),
    choose("stable_whisper.**.load_model").at(1, "device", Device).freezes_on_cuda(),
    choose("TTS.**.TTS").key("device", Device).key("gpu", Uses).freezes_on_cuda(),
    choose("whisper.**.load_model").at(1, "device", Device).freezes_on_cuda(),
    choose("whisper_timestamped.**.load_model").at(1, "device", Device).freezes_on_cuda(),
    choose("whisperx.**.DiarizationPipeline").key("device", Device).freezes_on_cuda(),
    choose("whisperx.**.load_align_model").at(1, "device", Device).freezes_on_cuda(),
    choose("whisperx.**.load_model")
        .at(1, "device", Kind)
        .at(2, "device_index", Device)
        .freezes_on_cuda(),
];
