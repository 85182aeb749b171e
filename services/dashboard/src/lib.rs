//! The operator's page: every backend live, and the controls to take one out and bring it back.
