redis = false
