"""Mathematics for arrays of any library: namespace, dispatch, matrix products, random numbers, trees."""
