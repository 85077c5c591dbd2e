"""Takes usage records in and rates each exactly once."""
