"""The labelled memes that train, calibrate and measure a guard model: how they are found and read."""
