//! What is declared, and what it means.
#[derive(Debug, Default)]
pub struct Policy;
#[derive(Debug, Default)]
pub struct LockFile;
