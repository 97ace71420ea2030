"""The steps of the method, one module each: saliency, optimisation, words, interpretation."""
