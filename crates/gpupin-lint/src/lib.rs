//! Static analysis of how a project chooses its GPU.
