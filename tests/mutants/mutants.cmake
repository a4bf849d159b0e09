# SPDX-License-Identifier: MIT OR Apache-2.0
# Deliberate defects, for CMake. See README.md.

set(MUTANTS_DIRECTORY ${CMAKE_CURRENT_LIST_DIR})
file(GLOB mutant_patches CONFIGURE_DEPENDS ${MUTANTS_DIRECTORY}/*.patch)

# mutant_tree(NAME DIRECTORY SOURCES): make DIRECTORY/lib a library with that defect, and SOURCES the
# list of those that must be compiled anew, as FOLDER/FILE.c. A change of the library, or of the
# patch, configures the build anew.
function(mutant_tree name directory sources)
    execute_process(COMMAND ${MUTANTS_DIRECTORY}/tree ${name} ${directory}
        OUTPUT_VARIABLE printed RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
        message(FATAL_ERROR "no mutant ${name}")
    endif()
    string(REGEX MATCHALL "[^\n]+" printed "${printed}")
    list(TRANSFORM printed REPLACE "^lib/" "")
    set(${sources} ${printed} PARENT_SCOPE)
    file(GLOB_RECURSE depends CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/lib/*.[ch])
    list(APPEND depends ${MUTANTS_DIRECTORY}/tree)
    if(NOT name STREQUAL NONE)
        list(APPEND depends ${MUTANTS_DIRECTORY}/${name}.patch)
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${depends})
endfunction()

# mutant_header(NAME FIELD VALUE): what a patch's header says of it.
function(mutant_header name field value)
    file(STRINGS ${MUTANTS_DIRECTORY}/${name}.patch line REGEX "^${field}: " LIMIT_COUNT 1)
    string(REGEX REPLACE "^${field}: " "" line "${line}")
    set(${value} "${line}" PARENT_SCOPE)
endfunction()
