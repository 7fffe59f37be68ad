/* sanitized.h - SANITIZED is defined where the test is built with AddressSanitizer, under which memory counts otherwise. */
#ifndef GD_TESTS_SANITIZED_H
#define GD_TESTS_SANITIZED_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

#endif
