"""Data for the inference layer: what a user may hand over, and public data sets by name."""

from dynapilco.inference.data.csv_files import load_csv
from dynapilco.inference.data.dataset import Dataset, Standardiser
from dynapilco.inference.data.named import dataset_names, load_dataset
from dynapilco.inference.data.sources import as_tensors, is_batched

__all__ = ["Dataset", "Standardiser", "as_tensors", "dataset_names", "is_batched", "load_csv", "load_dataset"]
