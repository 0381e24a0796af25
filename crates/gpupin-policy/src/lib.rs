//! What is declared, and what it means.
