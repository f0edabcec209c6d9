"""What an array library is to us: its namespace, its devices, its random bits, its trees and its kernels."""
