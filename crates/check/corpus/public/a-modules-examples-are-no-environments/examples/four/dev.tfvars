redis = true
