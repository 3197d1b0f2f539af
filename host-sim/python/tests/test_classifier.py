"""scikit-learn's conventions."""

import flatmin
import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", reason="SKIPPED: no scikit-learn here")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402


def test_cross_validation_is_tuning_and_testing_by_hand(model_path, model, wearer):
    folds = StratifiedKFold(3)
    classifier = flatmin.Classifier(model_path, method="sgd", layers=1, epochs=5)
    scores = cross_val_score(classifier, wearer.x, wearer.y, cv=folds)
    expected = []
    for tuned, tested in folds.split(wearer.x, wearer.y):
        test = (wearer.x[tested], wearer.y[tested])
        run = model.tune(wearer.x[tuned], wearer.y[tuned], test=test, method="sgd", layers=1, epochs=5)
        expected.append(run.accuracy)
    assert scores.tolist() == expected


def test_parameters_are_kept_cloned_and_searched(model_path, wearer):
    classifier = flatmin.Classifier(model_path, method="sam", layers=1)
    assert classifier.get_params()["method"] == "sam"
    twin = clone(classifier).set_params(epochs=2)
    assert (twin.epochs, classifier.epochs) == (2, None)
    search = GridSearchCV(twin, {"learning_rate": [0.0, 0.02]}, cv=3).fit(wearer.x, wearer.y)
    assert search.best_params_["learning_rate"] in (0.0, 0.02)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        classifier.predict(wearer.x)


def test_probabilities_add_up_and_agree_with_predictions(model_path, wearer):
    names = ["a", "b", "c", "d", "e", "f", "g"]
    y = np.array(names)[wearer.y]
    classifier = flatmin.Classifier(model_path, method="closed-form", layers=1, classes=names).fit(wearer.x, y)
    chances = classifier.predict_proba(wearer.x_test)
    assert chances.shape == (len(wearer.x_test), 7) and (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert classifier.classes_.tolist() == names
    predicted = classifier.predict(wearer.x_test)
    own = chances[np.arange(len(predicted)), np.searchsorted(names, predicted)]
    np.testing.assert_array_equal(own, chances.max(axis=1))
    assert classifier.score(wearer.x_test, np.array(names)[wearer.y_test]) > 0.5
    assert classifier.tuning_.tuned_samples == len(wearer.x)


def test_flat_windows_fit_into_pipelines(model_path, wearer):
    flat = FunctionTransformer(lambda x: x.reshape(len(x), -1))
    pipeline = make_pipeline(flat, flatmin.Classifier(model_path, method="sgd", layers=1, epochs=2))
    straight = flatmin.Classifier(model_path, method="sgd", layers=1, epochs=2).fit(wearer.x, wearer.y)
    predicted = pipeline.fit(wearer.x, wearer.y).predict(wearer.x_test)
    np.testing.assert_array_equal(predicted, straight.predict(wearer.x_test))
