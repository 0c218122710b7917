"""stub"""
def read_module_lists(r): return []
def read_mode_overrides(r): return []
def read_dropout(r): return []
