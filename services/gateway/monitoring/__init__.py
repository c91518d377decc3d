"""/metrics: figures of the job store, made at intervals (`snapshot_cache`), counts of requests
(`request_counts`), and both as metrics (`families`)."""
