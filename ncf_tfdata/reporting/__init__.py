"""What people read of a run: tables, plots, the report."""
