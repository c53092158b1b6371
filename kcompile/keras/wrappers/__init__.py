"""`keras.wrappers`: models as scikit-learn estimators. scikit-learn is loaded when one of them is asked for."""

from kcompile.errors import MissingNameError

__all__ = ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]


def __getattr__(name: str):
    if name not in __all__:
        raise MissingNameError(f"keras.wrappers has no {name!r} in kcompile; it has {', '.join(__all__)}")
    try:
        from kcompile.keras.wrappers import estimators
    except ImportError as error:
        raise MissingNameError(
            f"keras.wrappers.{name} needs scikit-learn: pip install scikit-learn ({error})"
        ) from error
    return getattr(estimators, name)
