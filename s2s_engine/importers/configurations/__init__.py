"""What toolkits write beside weights: configurations, vocabularies and search, toolkit by toolkit.
Knows files and keys; never equations."""
