"""What every floor may use: errors, names, seeds and safe storage. Imports nothing from above."""
