# cython: language_level=3

# The ISO 4217 letters of a currency's number.
cdef str currency_of(int number)
