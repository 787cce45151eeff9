/* What this build of the core leaves out. A bit that is 0 takes the code for it out of those functions that serve
 * several features or operators; whole functions are for the registry to name and for the linker to drop. A file that
 * needs what was left out is refused with unsupported_feature or unsupported_operator.
 *
 * `thimble export --c-array` writes this file for one model. This one leaves out nothing. */
#ifndef THIMBLE_BUILD_H
#define THIMBLE_BUILD_H

#define THIMBLE_BUILD_FEATURES 0xFFFFFFFFu      /* enum thimble_feature */
#define THIMBLE_BUILD_OPERATORS 0xFFFFFFFFu     /* bit n: enum thimble_operator_kind n; so too the following */
#define THIMBLE_BUILD_LAYOUTS 0xFFFFFFFFu       /* enum thimble_layout */
#define THIMBLE_BUILD_VALUE_MAPS 0xFFFFFFFFu    /* enum thimble_value_map */
#define THIMBLE_BUILD_REQUANT_FORMS 0xFFFFFFFFu /* enum thimble_requant_form */
#define THIMBLE_BUILD_PATHS 0xFFFFFFFFu         /* enum thimble_path, of src/build.h */

#endif
