"""Turn a ratings log of any size into a dataset directory, with Apache Beam."""
