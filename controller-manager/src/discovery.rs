//! Which resources the apiserver serves now: asked in one request (aggregated discovery, KEP-3352), or group by group.

