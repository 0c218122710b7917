"""Operations on whole tensors that rules call between passes; see :mod:`kudari.compile.stage`."""
