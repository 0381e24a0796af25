use super::{
    Answer, Api, Numbering,
    Shape::{Count, Device, Mask, Tail},
    choose, query,
};
use crate::unit::Sureness::Sure;

/// Arrays, tables, trees, search, vision: `CuPy`, Numba, RAPIDS, `XGBoost`, spaCy, faiss, `OpenCV` … Ordered by path.
pub(super) const APIS: &[Api] = &[
    // XGBoost wraps an ordinal that is too large around the number of GPUs it sees.
    choose("catboost.**.CatBoost").key("devices", Tail),
    choose("catboost.**.CatBoostClassifier").key("devices", Tail),
    choose("catboost.**.CatBoostRegressor").key("devices", Tail),
    choose("cuda.cuda.cuDeviceGet").at(0, "", Device).freezes(Sure),
    choose("cuda.cudart.cudaSetDevice").at(0, "", Device).freezes(Sure),
    query("cupy.arange").freezes(Sure),
    query("cupy.array").freezes(Sure),
    query("cupy.asarray").freezes(Sure),
    choose("cupy.cuda.Device").at(0, "device", Device).names(),
    choose("cupy.cuda.device.Device").at(0, "device", Device).names(),
    query("cupy.cuda.is_available").freezes(Sure).answers(Answer::Available),
    query("cupy.cuda.runtime.getDeviceCount").freezes(Sure).answers(Answer::Count),
    query("cupy.cuda.runtime.getDeviceProperties").at(0, "device", Device).freezes(Sure),
    choose("cupy.cuda.runtime.setDevice").at(0, "device", Device).freezes(Sure),
    query("cupy.ones").freezes(Sure),
    query("cupy.zeros").freezes(Sure),
    choose("cv2.cuda.DeviceInfo").at(0, "device_id", Device).freezes(Sure),
    query("cv2.cuda.getCudaEnabledDeviceCount").freezes(Sure).answers(Answer::Count),
    choose("cv2.cuda.setDevice").at(0, "device", Device).freezes(Sure),
    choose("dask_cuda.**.LocalCUDACluster")
        .at(0, "CUDA_VISIBLE_DEVICES", Mask)
        .key("n_workers", Count)
        .counts(Numbering::BaseOrder),
    query("faiss.get_num_gpus").freezes(Sure).answers(Answer::Count),
    choose("faiss.GpuIndexFlatConfig.device").assigned(Device),
    choose("faiss.GpuIndexIVFFlatConfig.device").assigned(Device),
    choose("faiss.GpuIndexIVFPQConfig.device").assigned(Device),
    choose("faiss.index_cpu_to_all_gpus").spreads().freezes(Sure),
    choose("faiss.index_cpu_to_gpu").at(1, "device", Device).freezes(Sure),
    choose("faiss.index_cpu_to_gpu_multiple_py").key("gpus", Device).spreads().freezes(Sure),
    choose("faiss.index_cpu_to_gpus_list").key("gpus", Device).key("ngpu", Count).freezes(Sure),
    choose("flair.device").assigned(Device),
    choose("mxnet.**.gpu").at(0, "device_id", Device),
    query("mxnet.**.num_gpus").freezes(Sure).answers(Answer::Count),
    query("numba.cuda.device_array").freezes(Sure),
    query("numba.cuda.get_current_device").freezes(Sure),
    choose("numba.cuda.gpus").indexed(),
    query("numba.cuda.is_available").freezes(Sure).answers(Answer::Available),
    choose("numba.cuda.list_devices").indexed(),
    query("numba.cuda.list_devices").freezes(Sure).answers(Answer::Available),
    choose("numba.cuda.select_device").at(0, "device_id", Device).freezes(Sure),
    query("numba.cuda.to_device").freezes(Sure),
    choose("nvmath.**.Matmul").key("device_id", Device),
    choose("pycuda.driver.Device").at(0, "", Device),
    choose("rmm.reinitialize").key("devices", Device).freezes(Sure),
    choose("spacy.prefer_gpu").at(0, "gpu_id", Device).freezes(Sure),
    choose("spacy.require_gpu").at(0, "gpu_id", Device).freezes(Sure),
    choose("thinc.**.prefer_gpu").at(0, "gpu_id", Device).freezes(Sure),
    choose("thinc.**.require_gpu").at(0, "gpu_id", Device).freezes(Sure),
    choose("thinc.**.set_active_gpu").at(0, "gpu_id", Device).freezes(Sure),
    choose("ultralytics.**.YOLO.predict").key("device", Device).freezes_on_cuda(),
    choose("ultralytics.**.YOLO.train").key("device", Device).freezes_on_cuda(),
    choose("xgboost.**.XGBClassifier")
        .key("gpu_id", Device)
        .key("device", Device)
        .freezes_on_cuda(),
    choose("xgboost.**.XGBRegressor").key("gpu_id", Device).key("device", Device).freezes_on_cuda(),
];
