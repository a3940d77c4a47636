//! The region's front: a CONNECT proxy, a name-constrained CA, TLS by SNI, routing by host, and the
//! front end of every site. It routes by an immutable table behind one atomic pointer, takes no lock
//! and copies no body on the request path, and knows nothing of Resource Manager or processes.
