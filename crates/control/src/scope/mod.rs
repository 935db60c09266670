//! What of a world one proxy may see: services, rules and policies by `exportTo`, Sidecar and namespace.
