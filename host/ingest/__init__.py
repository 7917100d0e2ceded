"""Captured predictions past one machine: from a broker into partitioned Parquet files, and questions to those."""
