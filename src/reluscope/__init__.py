"""reluscope"""
