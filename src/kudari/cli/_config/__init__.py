"""Reading, checking and writing the configuration of ``kudari train``. Loads no torch."""
