"""A scikit-learn model that somebody trained elsewhere: served, logged and watched. Needs a platform (`perennial up`)."""

import tempfile
from pathlib import Path

import numpy as np
from perennial.client import Perennial, Table
from perennial.package import package_model
from perennial.v1.serving_pb2 import DeploymentSpec, MonitoringPolicy
from sklearn.linear_model import LinearRegression

NAME = "house-prices"


def main() -> None:
    """Train anything, hand it over, ask it, tell it the truth."""
    random = np.random.default_rng(7)
    rooms, metres = random.integers(1, 7, 500).astype(float), random.uniform(20, 200, 500)
    price = 900 * metres + 12_000 * rooms + random.normal(0, 5_000, 500)
    model = LinearRegression().fit(np.column_stack([rooms, metres]), price)

    package = package_model(model, Table.of({"rooms": rooms, "metres": metres}), task="regression")
    with Perennial() as platform, tempfile.TemporaryDirectory() as folder:
        package.write(Path(folder))
        version = platform.models.register(NAME, folder, first_alias="champion")
        platform.deployments.create(DeploymentSpec(name=NAME, model=NAME, monitoring=MonitoringPolicy(outcomes=True)))
        answers = platform.predict(NAME, [{"rooms": 3, "metres": 80}, {"rooms": 5, "metres": 140}])
        platform.monitoring.outcomes(NAME).record(answers.ids, [112_000.0, 190_000.0])
        print(version.name, version.version, answers.values.round(), answers.ids)


if __name__ == "__main__":
    main()
