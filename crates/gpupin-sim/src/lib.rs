//! `libnvidia-ml.so.1` and `libcuda.so.1` over a scene, for tests, demonstrations and rehearsals.
