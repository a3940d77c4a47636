//! The deployment standard as typed data, the manifest (`lazuli.yaml`), and the pure function
//! manifest → blueprint: a typed graph of Azure resources per environment.
//! It does no I/O and knows nothing of the region or of the release process.
